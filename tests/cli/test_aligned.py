"""Linear Alignment where answers are sampled: ``seralign sample``, ``chat`` and ``evaluate``."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from text_model import save_text_model

from seralign.cli.main import main
from seralign.config.candidates import load_sample_config
from seralign.config.evaluate import evaluate_config
from seralign.errors import ConfigError
from seralign.pipeline.candidates import sample_all
from seralign.pipeline.evaluate.folder import OUTPUTS
from seralign.pipeline.evaluate.run import evaluate
from seralign.runs.files import read_table

FLAGS = ["--max_new_tokens", "8", "--temperature", "0.9", "--samples", "2", "--seed", "3"]
PRINCIPLE = "Answer in German."


def _sampled(model: Path, *more: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["sample", str(model), "--prompt", "Name a bird.", *FLAGS, *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_step_of_zero_is_the_principle_as_a_system_message(
    chat_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = _sampled(chat_model, "--system", PRINCIPLE, capsys=capsys)
    zero = _sampled(chat_model, "--principle", PRINCIPLE, "--step", "0", capsys=capsys)
    assert zero == system
    assert zero["rendered"].startswith(f"<|system|>{PRINCIPLE}</s>")
    default = _sampled(chat_model, "--principle", PRINCIPLE, capsys=capsys)
    assert default["rendered"] == zero["rendered"]
    assert default["responses"] != zero["responses"]
    assert default == _sampled(chat_model, "--principle", PRINCIPLE, "--step", "2.0", capsys=capsys)


def test_the_principle_follows_the_system_message_of_a_run(lora_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _sampled(lora_run, "--principle", PRINCIPLE, "--step", "1", capsys=capsys)
    assert found["rendered"].startswith(f"<|system|>Be brief.\n\n{PRINCIPLE}</s><|user|>Name a bird.")


def test_plain_text_begins_with_the_principle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_text_model(tmp_path / "plain", None)
    found = _sampled(tmp_path / "plain", "--principle", PRINCIPLE, capsys=capsys)
    assert found["rendered"] == f"{PRINCIPLE}\n\nName a bird."


def test_a_chat_is_aligned(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for step in ("0", "3"):
        monkeypatch.setattr("sys.stdin", io.StringIO("Name a bird.\nAnother.\n"))
        assert main(["chat", str(chat_model), "--principle", PRINCIPLE, "--step", step, "--max_new_tokens", "8"]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] != told[1]
    assert all(text.startswith("> Name a bird.") for text in told)


def _values(folder: Path, model: Path, **more: Any) -> dict[str, Any]:
    (folder / "prompts.jsonl").write_text('{"prompt": "Name a bird."}\n{"prompt": "Name a tree."}\n', encoding="utf-8")
    alignment = {"principle": PRINCIPLE, "step": 2.0}
    policies = {"plain": str(model), "aligned": {"model": str(model), "linear_alignment": alignment}}
    return {
        "out": str(folder / "evaluation"), "prompts": {"path": str(folder / "prompts.jsonl")}, "policies": policies,
        "scorer": "module:function", "temperature": 1.0, "max_new_tokens": 8, "length_control": False,
    } | more  # fmt: skip


def _length(prompts: list[str], responses: list[str]) -> list[float]:
    return [float(len(response)) for response in responses]


def test_an_evaluation_compares_a_policy_with_itself_aligned(chat_model: Path, tmp_path: Path) -> None:
    result = evaluate(evaluate_config(_values(tmp_path, chat_model)), _length)
    rows = read_table(result.folder / OUTPUTS, ["policy", "output"]).to_pylist()
    plain, aligned = ([row["output"] for row in rows if row["policy"] == name] for name in ("plain", "aligned"))
    assert len(plain) == len(aligned) == 2
    assert plain != aligned


def test_candidates_are_aligned(chat_model: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Name a bird."}\n', encoding="utf-8")
    found = []
    for step in (0, 2):
        config = tmp_path / "sample.yaml"
        config.write_text(
            f"out: {tmp_path}/out{step}.jsonl\nprompts: {{path: {tmp_path}/prompts.jsonl}}\nmodels: [{chat_model}]\n"
            f"max_new_tokens: 8\nlinear_alignment: {{principle: {PRINCIPLE}}}\n",
            encoding="utf-8",
        )
        sample_all(load_sample_config(config, {"linear_alignment.step": float(step)}))
        found.append(json.loads((tmp_path / f"out{step}.jsonl").read_text(encoding="utf-8")))
    assert found[0]["prompt"] == found[1]["prompt"]
    assert found[0]["responses"] != found[1]["responses"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--step", "1"], r"--step is the step of Linear Alignment; give --principle, too"),
        (["--principle", " "], r"--principle must be a text"),
        (["--principle", PRINCIPLE, "--step", "-1"], r"--step must be at least 0, got -1"),
    ],
)
def test_wrong_flags_are_refused(
    arguments: list[str], message: str, chat_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(chat_model), "--prompt", "Hi", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"outputs": "a.json"}, r"policies\.aligned\W+linear_alignment needs a model"),
        (
            {"model": "m", "linear_alignment": {"step": 1.0}},
            r"aligned\.linear_alignment\.principle is missing",
        ),
        ({"model": "m", "linear_alignment": {"principle": "p", "ratio": 1.0}}, r"linear_alignment\.ratio: unknown key"),
        ({"model": "m", "linear_alignment": {"principle": ""}}, r"policies\.aligned\.linear_alignment\.principle must"),
    ],
)
def test_wrong_keys_are_named(policy: dict[str, Any], message: str, tmp_path: Path, chat_model: Path) -> None:
    values = _values(tmp_path, chat_model)
    alignment = {"linear_alignment": {"principle": PRINCIPLE}}
    values["policies"]["aligned"] = alignment | policy
    with pytest.raises(ConfigError, match=message):
        evaluate_config(values)


def test_other_engines_are_refused(chat_model: Path, tmp_path: Path) -> None:
    vllm = {"engine": "vllm", "engine_options": {"python": "python"}}
    with pytest.raises(ConfigError, match=r"^policies\.aligned\.linear_alignment: it needs both .* vllm$"):
        evaluate(
            evaluate_config(
                _values(
                    tmp_path,
                    chat_model,
                    policies={
                        "aligned": {"model": str(chat_model), "linear_alignment": {"principle": PRINCIPLE}},
                        "plain": str(chat_model),
                    },
                    **vllm,
                )
            ),
            _length,
        )
