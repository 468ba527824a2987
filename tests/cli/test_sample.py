"""``seralign sample``: a line for every row, the same by the same seed, and nothing lost where it is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hand_made import new_run
from transformers import AutoTokenizer

from seralign.cli.main import main
from seralign.config import DataConfig, PolicyConfig
from seralign.data.table import write_prompts
from seralign.errors import DataError
from seralign.pipeline.asking import load_reader, read
from seralign.policy.identity import PolicySource
from seralign.policy.saved import SavedPolicy
from seralign.records import Prompt
from seralign.runs.files import partial_folder

FLAGS = ("--max_new_tokens", "6", "--temperature", "0.9", "--seed", "3")
ROWS: list[Any] = [
    "Say 1.",
    [{"role": "user", "content": "Say 2."}],
    "x" * 1100,
    "Say 1.",
    [{"role": "user", "content": "Say 3."}],
]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": row}) + "\n" for row in ROWS), encoding="utf-8")
    return file


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_every_row_has_a_line(
    lora_run: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answers.jsonl"
    arguments = ["sample", str(lora_run), "--prompts", str(prompts), "--out", str(out), "--samples", "2", *FLAGS]
    assert main(arguments) == 0
    found = lines(out)
    turns = [row if isinstance(row, list) else [{"role": "user", "content": row}] for row in ROWS]
    assert [line["prompt"] for line in found] == turns
    tokenizer = AutoTokenizer.from_pretrained(lora_run / "result")
    for line, words in ((found[0], "Say 1."), (found[1], "Say 2."), (found[4], "Say 3.")):
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": words}]
        whole = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert line["rendered"] == whole
        assert len(line["responses"]) == 2
        for response in line["responses"]:
            assert response["finished"] or response["tokens"] == 6
    assert found[0]["responses"] == found[3]["responses"]
    assert found[0]["responses"][0] != found[0]["responses"][1]
    assert found[2]["responses"] == []
    assert "1024 positions" in found[2]["left_out"]
    assert "1 of 5 prompts were not answered" in capsys.readouterr().err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["answers.jsonl", "prompts.jsonl"]


def test_batches_change_nothing_and_the_seed_does(lora_run: Path, prompts: Path, tmp_path: Path) -> None:
    texts = []
    for number, more in enumerate([("--batch_size", "1"), ("--batch_size", "4"), ("--seed", "4")]):
        out = tmp_path / f"{number}.jsonl"
        assert main(["sample", str(lora_run), "--prompts", str(prompts), "--out", str(out), *FLAGS, *more]) == 0
        texts.append(out.read_text(encoding="utf-8"))
    assert texts[0] == texts[1] != texts[2]


def test_a_killed_sampling_resumes(
    lora_run: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seralign.sampling import local

    whole, calls = local.sample, list[int]()

    def dies(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    monkeypatch.setattr(local, "sample", dies)
    arguments = ["sample", str(lora_run), "--prompts", str(prompts), "--batch_size", "1", *FLAGS]
    out = tmp_path / "answers.jsonl"
    assert main([*arguments, "--out", str(out)]) == 130
    assert not out.exists()
    assert main([*arguments, "--out", str(out)]) == 0
    assert len(calls) == 4, "three different prompts, one of them begun twice"
    assert main([*arguments, "--out", str(tmp_path / "again.jsonl")]) == 0
    assert (tmp_path / "again.jsonl").read_text() == out.read_text()


def test_a_folder_that_a_user_calls_partial_is_not_touched(
    chat_model: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "answers.jsonl.partial"
    mine.mkdir()
    (mine / "sampling.json").write_text("mine")
    out = tmp_path / "answers.jsonl"
    arguments = ["sample", str(chat_model), "--prompts", str(prompts), "--out", str(out), *FLAGS]
    assert main(arguments) == 2
    assert f"error: {mine} already exists and is not from an interrupted" in capsys.readouterr().err
    assert [(entry.name, entry.read_text()) for entry in mine.iterdir()] == [("sampling.json", "mine")]
    (mine / "sampling.json").unlink()
    with partial_folder(mine, "seralign sample"):
        assert main(arguments) == 2
        assert f"{mine}: another process is writing there" in capsys.readouterr().err
    (mine / ".seralign").write_text("seralign merge")
    assert main(arguments) == 2
    assert "is not from an interrupted seralign sample" in capsys.readouterr().err
    assert not out.exists()


def test_a_refused_prompt_comes_with_one_of_the_run_that_is_not(chat_model: Path, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    folder = run.begin("data", {})
    write_prompts(folder / "prompts.arrow", [Prompt("a", "two\nlines", (1,)), Prompt("b", "e1 e2 <sep>", (2,))])
    run.commit("data", {}, {}, 1.0)
    source = PolicySource(str(chat_model))
    for which, says in (
        (run, "empty prompt; a prompt of the run is, for example: e1 e2 <sep>"),
        (None, "empty prompt"),
    ):
        policy = SavedPolicy("it", source, chat_model, PolicyConfig(), DataConfig(), which)
        reader = load_reader(policy, plain=True)
        assert read(reader, "e1 e2 <sep>", "--prompt").text == "e1 e2 <sep>"
        with pytest.raises(DataError) as refused:
            read(reader, "", "--prompt")
        assert str(refused.value) == f"--prompt: {says}"


def test_one_prompt_goes_to_standard_output(chat_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sample", str(chat_model), "--prompt", "Grüße \u202e", "--system", "Kurz.", *FLAGS]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.isascii()
    line = json.loads(printed)
    assert line["prompt"] == "Grüße \u202e"
    assert line["rendered"] == "<|system|>Kurz.</s><|user|>Grüße \u202e</s><|assistant|>"
    assert main(["sample", str(chat_model), "--prompt", "Once", "--plain", *FLAGS]) == 0
    assert json.loads(capsys.readouterr().out)["rendered"] == "Once"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--prompts", "nowhere.jsonl"), ["nowhere.jsonl", "--prompts"]),
        (("--prompt", "x", "--limit", "3"), ["--limit", "--prompts"]),
        (("--prompt", "", "--plain"), ["--prompt", "empty prompt"]),
        (("--prompt", "x" * 1100), ["1024 positions"]),
        (("--prompt", "x", "--samples", "0"), ["--samples"]),
        (("--prompt", "x", "--out", "{there}"), ["already exists"]),
    ],
)
def test_mistakes_are_one_line(
    chat_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    says: list[str],
) -> None:
    there = tmp_path / "there.jsonl"
    there.write_text("mine")
    assert main(["sample", str(chat_model), *(argument.format(there=there) for argument in arguments)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    for word in says:
        assert word in errors[0]
    assert there.read_text() == "mine"
