"""``seralign sample CONFIG``: candidates of several models and temperatures, and nothing lost where it is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from seralign.cli.main import main
from seralign.pipeline.candidates import Response, _different
from seralign.runs.sealed import read_sealed, write_sealed

PROMPTS = ["Say 1.", "Say 2.", "x" * 1100, "Say 1.", "Say 3."]


@pytest.fixture
def config(chat_model: Path, lora_run: Path, tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in PROMPTS), encoding="utf-8")
    return {
        "out": str(tmp_path / "candidates.jsonl"), "prompts": {"path": str(file)},
        "models": [str(chat_model), str(lora_run)], "temperatures": [0.5, 1.2], "samples": 2, "max_new_tokens": 6,
        "seed": 3, "batch_size": 1, "duplicates": "keep",
    }  # fmt: skip


def write(values: dict[str, Any], folder: Path) -> str:
    file = folder / "sample.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(file)


def lines(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(values["out"]).read_text(encoding="utf-8").split("\n")[:-1]]


def test_candidates_of_each_model_and_temperature(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", write(config, tmp_path)]) == 0
    told = capsys.readouterr()
    found = lines(config)
    assert [row["prompt"][-1]["content"] for row in found] == ["Say 1.", "Say 2.", "Say 3."]
    for row in found:
        places = [(one["model"], one["temperature"]) for one in row["responses"]]
        assert places == [(model, t) for model in config["models"] for t in (0.5, 1.2) for _ in range(2)]
        assert len({one["seed"] for one in row["responses"]}) == 4, "each has random numbers of its own"
        for one in row["responses"]:
            assert set(one) == {"text", "model", "temperature", "seed", "finish_reason", "tokens"}
            assert one["finish_reason"] == "stop" or (one["finish_reason"], one["tokens"]) == ("length", 6)
    assert "24 responses to 3 prompts" in told.out + told.err
    assert not Path(config["out"] + ".partial").exists()
    assert main(["sample", write(config, tmp_path)]) == 2
    assert "already exists" in capsys.readouterr().err


def test_rows_without_a_prompt_are_counted_one_by_one(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def turns(prompt: str, answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]

    rows = [
        {"chosen": turns(one, "yes"), "rejected": turns(other, "no")}
        for one, other in (("Say 1.", "Say 1."), ("Say 2.", "Say 3."), ("Say 4.", "Say 5."))
    ]
    Path(config["prompts"]["path"]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    change: dict[str, Any] = {"models": config["models"][:1], "temperatures": [0.5]}
    assert main(["sample", write(config | change, tmp_path)]) == 0
    told = capsys.readouterr()
    assert "2 responses to 1 prompts" in told.out + told.err
    assert "2 prompts have no response" in told.out + told.err
    assert "repeated prompts" not in told.out + told.err


def test_inputs_of_the_template_stay_with_their_prompt(config: dict[str, Any], tmp_path: Path) -> None:
    rows = [{"prompt": "Say 1.", "chat_template_kwargs": {"loud": loud}} for loud in (True, False, True)]
    Path(config["prompts"]["path"]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    change: dict[str, Any] = {"models": config["models"][:1], "temperatures": [0.5]}
    assert main(["sample", write(config | change, tmp_path)]) == 0
    assert [row["chat_template_kwargs"] for row in lines(config)] == [{"loud": True}, {"loud": False}]
    assert [len(row["responses"]) for row in lines(config)] == [2, 2]


def test_models_that_read_a_prompt_differently_are_refused_before_they_are_asked(
    config: dict[str, Any], lora_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run with data.format: hh reads turns where another model reads one message; it drops what it cannot read."""
    hh = tmp_path / "hh"
    shutil.copytree(lora_run, hh)
    manifest = read_sealed(hh / "run.json")
    manifest["config"]["data"]["format"] = "hh"
    write_sealed(hh / "run.json", manifest)
    turns = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Say 2.\n\nAssistant:"
    texts = ["Say 1.", turns]
    prompts = Path(config["prompts"]["path"])
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts), encoding="utf-8")
    models = [config["models"][0], str(hh)]
    change: dict[str, Any] = {"models": models, "temperatures": [0.5], "samples": 1}
    assert main(["sample", write(config | change, tmp_path)]) == 2
    told = capsys.readouterr().err
    assert f"error: {prompts} row 2: the models read this prompt differently" in told
    assert f"(data.format: {models[0]} with auto and {models[1]} with hh)" in told
    assert "model 1 of 2" not in told
    assert not Path(config["out"]).exists()
    for chosen, count in (("hh", 3), ("auto", 1)):
        values = config | change | {"format": chosen, "out": str(tmp_path / f"{chosen}.jsonl")}
        assert main(["sample", write(values, tmp_path)]) == 0
        found = lines(values)
        assert [len(row["prompt"]) for row in found] == [1, count]
        assert [[one["model"] for one in row["responses"]] for row in found] == [models, models]
    # One message for both, whatever their format: nothing to choose.
    prompts.write_text(json.dumps({"prompt": "Say 1."}) + "\n", encoding="utf-8")
    assert main(["sample", write(config | change, tmp_path)]) == 0


def test_one_line_for_each_response_and_a_temperature_more(config: dict[str, Any], tmp_path: Path) -> None:
    """The responses of a model and a temperature do not depend on what else is sampled."""
    assert main(["sample", write(config, tmp_path)]) == 0
    both = [one for row in lines(config) for one in row["responses"] if one["temperature"] == 1.2]
    alone = {key: value for key, value in config.items() if key != "temperatures"}
    alone |= {"out": str(tmp_path / "alone.jsonl"), "rows": "response", "temperature": 1.2}
    assert main(["sample", write(alone, tmp_path)]) == 0
    rows = lines(alone)
    assert set(rows[0]) == {"prompt", "response", "model", "temperature", "seed", "finish_reason", "tokens"}
    assert [(row["response"], row["seed"]) for row in rows] == [(one["text"], one["seed"]) for one in both]


def test_label_reads_the_candidates(config: dict[str, Any], tmp_path: Path) -> None:
    assert main(["sample", write(config, tmp_path)]) == 0
    texts = {one["text"] for row in lines(config) for one in row["responses"]}
    plain = "^[ -~]"  # not all responses of a random model begin so, and some are empty
    labels = {
        "out": str(tmp_path / "pairs.jsonl"), "signals": [{"name": "regex", "pattern": plain}],
        "data": {"path": config["out"], "responses": "responses", "text": "text"},
    }  # fmt: skip
    file = tmp_path / "label.yaml"
    file.write_text(yaml.safe_dump(labels))
    assert main(["label", str(file)]) == 0
    pairs = lines(labels)
    assert pairs
    for pair in pairs:
        assert re.match(plain, pair["chosen"])
        assert not re.match(plain, pair["rejected"])
        assert {pair["chosen"], pair["rejected"]} <= texts


@pytest.mark.parametrize(("duplicates", "kept"), [("keep", [0, 1, 2, 3]), ("exact", [0, 1, 3]), ("spaces", [0, 3])])
def test_repeated_responses(duplicates: str, kept: list[int]) -> None:
    texts = ["a b", " a\n b ", "a b", "ab"]
    responses = [Response(text, "m", 1.0, number, "stop", 1) for number, text in enumerate(texts)]
    assert [one.seed for one in _different(responses, duplicates)] == kept


def test_killed_and_given_again_it_ends_with_equal_bytes(config: dict[str, Any], tmp_path: Path) -> None:
    whole = config | {"out": str(tmp_path / "whole.jsonl")}
    assert main(["sample", write(whole, tmp_path)]) == 0
    # A process that kills itself, without a chance to clean up, when 5 of 12 batches are stored.
    code = (
        "import os, signal, sys\n"
        "from seralign.runs.results import Results\n"
        "put, count = Results.put, [0]\n"
        "def dies(self, values):\n"
        "    put(self, values)\n"
        "    count[0] += 1\n"
        "    if count[0] == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Results.put = dies\n"
        "from seralign.cli.main import main\n"
        "main(['sample', sys.argv[1]])\n"
    )
    arguments = [sys.executable, "-c", code, write(config, tmp_path)]
    done = subprocess.run(arguments, capture_output=True, check=False, env=os.environ, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not Path(config["out"]).exists()
    assert Path(config["out"] + ".partial").is_dir()
    assert main(["sample", write(config, tmp_path)]) == 0
    assert Path(config["out"]).read_bytes() == Path(whole["out"]).read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"models": []}, "models must be a list of at least one model"),
        ({"models": ["a", "a"]}, "models must be a list of different models"),
        ({"temperatures": [1.0, 0.0]}, "temperatures[1] must be greater than 0"),
        ({"temperatures": None, "temperature": 0.0}, "temperature must be greater than 0"),
        ({"temperature": 1.0}, "temperature and temperatures exclude each other"),
        ({"out": "a.csv"}, "out must be a file that ends with .jsonl"),
        ({"sample": 3}, "sample: unknown key; did you mean samples?"),
        ({"prompts": {"path": "p", "limits": 3}}, "prompts.limits: unknown key; did you mean prompts.limit?"),
        ({"duplicates": "all"}, "duplicates must be one of exact, spaces, keep, got 'all'"),
        ({"samples": "2"}, "samples must be a whole number, got '2'; remove the quotes"),
    ],
)
def test_a_wrong_key_is_named(
    config: dict[str, Any], tmp_path: Path, change: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(config | change, tmp_path)
    assert main(["sample", file]) == 2
    assert f"error: {file}: {says}" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.glob("candidates*")) == []
