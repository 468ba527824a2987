"""What a run leaves as its result: data type, base, and tokens that the model has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import small_run
import tiny
from peft import PeftModel
from transformers import AutoModelForCausalLM

from seralign import train
from seralign.cli.main import main
from seralign.config import load_config
from seralign.errors import ModelError
from seralign.policy.identity import PolicySource, weights_digest
from seralign.policy.quiet import quiet_transformers
from seralign.policy.saving import cast_saved

SHORT: dict[str, Any] = {"rounds": 1, "sft": None, "evaluation__prompts": 2, "evaluation__baseline": False}


def own_config(out: Path, model: Path, words: str = "w3 w4", **values: Any) -> Any:
    rows = [{"prompt": f"w{at} w2", "chosen": f" {words}", "rejected": f" w5 w{at}"} for at in range(8)]
    (out.parent / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {
        "out": str(out), "policy.model": str(model), "data.pairs": {"path": str(out.parent / "pairs.jsonl")},
        "rounds": 1, "data.max_length": 32, "stop.metric": "never", "training.precision": "float32",
        "training": {"max_steps": 2, "batch_size": 2, "learning_rate": 1e-3, "precision": "float32"},
        "evaluation": {"prompts": 1, "max_new_tokens": 4, "token_pairs": 0}, "scoring.dtype": "float32",
    }  # fmt: skip
    del given["training.precision"]
    return load_config(None, given | values)


@pytest.mark.parametrize(("asked", "wanted"), [("auto", "bfloat16"), ("float32", "float32")])
def test_the_result_has_the_data_type_that_the_model_came_in(asked: str, wanted: str, tmp_path: Path) -> None:
    tiny.save_model(tmp_path / "model")
    cast_saved(tmp_path / "model", "bfloat16")
    found = train(own_config(tmp_path / "run", tmp_path / "model", **{"policy.save_dtype": asked}))
    assert json.loads((found.policy / "config.json").read_text())["dtype"] == wanted
    trained = tmp_path / "run" / "round-1" / "train" / "policy"
    assert json.loads((trained / "config.json").read_text())["dtype"] == "float32"
    assert found.figures.digest == weights_digest(PolicySource(str(found.policy)))
    assert (found.figures.digest == weights_digest(PolicySource(str(trained)))) == (wanted == "float32")
    assert found.figures.digest in (found.policy / "README.md").read_text()


@pytest.mark.parametrize(("rate", "lost"), [(1e-7, True), (1e-2, False)])
def test_a_change_that_rounding_takes_back_is_a_warning(
    rate: float, lost: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.save_model(tmp_path / "model")
    cast_saved(tmp_path / "model", "bfloat16")
    values = {"training.learning_rate": rate, "training.warmup": 0.0}
    found = train(own_config(tmp_path / "run", tmp_path / "model", **values))
    assert (found.figures.kept_change < 0.1) == lost
    assert ("warning: rounding to bfloat16 leaves" in capsys.readouterr().err) == lost
    assert ("of what the rounds changed is left" in (found.policy / "README.md").read_text()) == lost


def test_an_adapter_of_the_built_in_world_names_its_base_beside_it(tmp_path: Path) -> None:
    found = train(small_run.small_config(tmp_path / "run", **SHORT, policy__lora={"r": 2, "alpha": 4}))
    place = json.loads((found.policy / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert place == "../world/model"
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    with quiet_transformers():
        base = AutoModelForCausalLM.from_pretrained(moved / "result" / place)
        PeftModel.from_pretrained(base, str(moved / "result"))
    prompts = str(moved / "world" / "prompts.jsonl")
    for policy in (moved, moved / "result"):
        assert main(["sample", str(policy), "--prompts", prompts, "--limit", "2", "--max_new_tokens", "4"]) == 0
    assert main(["merge", str(moved), "--out", str(tmp_path / "whole")]) == 0
    again = train(small_run.small_config(moved, **SHORT, policy__lora={"r": 2, "alpha": 4}))
    assert again.figures == found.figures


def test_tokens_that_the_embedding_lacks_are_refused_where_the_data_has_them(tmp_path: Path) -> None:
    tiny.save_model(tmp_path / "model")
    tokenizer = tiny.make_tokenizer()
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(tmp_path / "model")
    wanted = r"^policy\.tokenizer: the data has token 48 \('<new>'\), but the model's embedding 48 rows"
    with pytest.raises(ModelError, match=wanted):
        train(own_config(tmp_path / "run", tmp_path / "model", "w3 <new>"))
    train(own_config(tmp_path / "fine", tmp_path / "model"))
