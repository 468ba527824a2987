"""Trainings that cannot be as they were asked for are refused before anything is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_run import small_config
from text_model import save_text_model

import seralign
from seralign.errors import ConfigError, DataError


@pytest.mark.parametrize("section", ["training", "sft"])
def test_a_tracker_is_refused_before_the_run_has_a_folder(section: str, tmp_path: Path):
    run = small_config(tmp_path / "run", **{f"{section}__report_to": ["nosuch"]})

    with pytest.raises(ConfigError, match=rf"^{section}\.report_to: nosuch cannot be used"):
        seralign.train(run)
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:Both num_training_steps and num_stable_steps:UserWarning")
def test_a_training_that_cannot_move_ends_a_run_before_a_model_runs(tmp_path: Path):
    never = {"lr_scheduler_kwargs": {"num_decay_steps": 0, "num_stable_steps": 0}}
    run = small_config(
        tmp_path / "run", training__schedule="warmup_stable_decay", training__warmup=0.0, training__extra=never
    )

    with pytest.raises(ConfigError, match=r"^training\.schedule: all 4 steps have a learning rate of 0"):
        seralign.train(run)
    assert not list((tmp_path / "run").glob("sft*"))


def test_a_mistake_in_the_data_leaves_the_folder_free(tmp_path: Path) -> None:
    """The error says how to map the columns; the same command with the mapping has to run."""
    save_text_model(tmp_path / "model", None)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"prompt": "Say {n}. ", "good": "{n}", "bad": "No."}}\n' for n in range(1, 5)))
    config = {
        "out": str(tmp_path / "run"), "rounds": 1, "policy.model": str(tmp_path / "model"),
        "data": {"pairs": {"path": str(rows)}, "max_length": 32}, "training": {"max_steps": 1, "learning_rate": 1e-3},
        "evaluation": {"prompts": 0, "token_pairs": 0}, "stop.metric": "never",
    }  # fmt: skip
    with pytest.raises(DataError, match="a pair needs chosen and rejected"):
        seralign.train(seralign.load_config(None, config))
    mapped = config | {"data.pairs.columns": {"chosen": "good", "rejected": "bad"}}
    assert seralign.train(seralign.load_config(None, mapped)).figures["policy"] == "round 1"


@pytest.mark.parametrize(
    "extra",
    [
        {"hub_token": "anything"},
        {"run_name": "hf_" + "aBcDeFgHiJkLmNoPqRsT"},
        {"lr_scheduler_kwargs": {"api_key": "12345"}},
        {"lr_scheduler_kwargs": {"names": ["a", "sk-" + "proj-0123456789abcdef"]}},
        {"logging_dir": "https://user:word@host/x"},
        {"run_name": "0123456789abcdef" * 2 + "01234567"},
        {"MY_PASSWORD": "x"},
        {"optim_args": "secret_value=1, github_pat_" + "a" * 30},
    ],
)
@pytest.mark.parametrize("section", ["training", "sft"])
def test_a_secret_is_refused_and_not_repeated(section: str, extra: dict[str, Any], tmp_path: Path):
    with pytest.raises(ConfigError, match=rf"^{section}\.extra\.[\w.\[\]]+: .*belongs in the environment") as caught:
        small_config(tmp_path / "run", **{f"{section}__extra": extra})
    for value in ("anything", "hf_", "12345", "sk-", "word@", "abcdef01", "github_pat"):
        assert value not in str(caught.value).replace("HF_TOKEN", "")
