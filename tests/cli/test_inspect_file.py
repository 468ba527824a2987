"""``seralign inspect FILE --model M``: a file by itself, without a configuration."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from seralign.cli.main import main

PAIR = {"prompt": "Say 1.", "chosen": "1", "rejected": "No."}
DEMONSTRATION = {"prompt": "Say 1.", "response": "1"}
PROMPT = {"prompt": "Say 1."}
LABEL = {"prompt": "Say 1.", "completion": "No.", "label": False}
SCORE = {"prompt": "Say 1.", "response": "1", "score": 3.5}
RANKING = {"prompt": "Say 1.", "responses": ["No.", "1"], "ranks": [2, 1]}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("row", "kind", "shown"),
    [(PAIR, "pairs", "rejected: 6 prompt tokens"), (DEMONSTRATION, "demonstrations", "response: 6 prompt tokens"),
     (PROMPT, "prompts", ": 6 tokens"),
     (LABEL, "pairs", "undesirable: 6 prompt tokens"), (SCORE, "pairs", "score 3.5: 6 prompt tokens"),
     (RANKING, "pairs", "rank 2: 6 prompt tokens")],
)  # fmt: skip
def test_the_kind_of_its_rows_is_known(
    chat_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    row: dict[str, Any],
    kind: str,
    shown: str,
    packed: bool,
) -> None:
    content = (json.dumps(row) + "\n").encode()
    file = tmp_path / ("rows.jsonl.gz" if packed else "rows.jsonl")
    file.write_bytes(gzip.compress(content) if packed else content)
    assert main(["inspect", str(file), "--model", str(chat_model)]) == 0
    printed = capsys.readouterr().out
    assert f"data.{kind}: {file}" in printed
    assert "read 1, kept 1" in printed
    assert shown in printed


def test_a_name_that_begins_with_a_bracket_is_a_file(
    chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("[a]b.jsonl").write_text(json.dumps(PAIR) + "\n")
    assert main(["inspect", "[a]b.jsonl", "--model", str(chat_model)]) == 0
    assert "data.pairs: [a]b.jsonl" in capsys.readouterr().out


@pytest.mark.parametrize("row", [{"prompt": "Say 1.", " chosen": "1", " rejected": "No."}])
def test_a_file_that_is_meant_to_have_pairs_is_not_shown_as_something_else(
    chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: dict[str, Any]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    assert main(["inspect", str(file), "--model", str(chat_model)]) == 2
    assert "{chosen: ' chosen', rejected: ' rejected'}" in capsys.readouterr().err


def test_what_conversions_made_is_told(chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [SCORE, {**SCORE, "response": "No.", "score": 1.5}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--data.convert.scores", "all_pairs", "--data.convert.temperature", "2"]
    assert main(["inspect", str(file), "--model", str(chat_model), *flags]) == 0
    printed = capsys.readouterr().out
    assert "data.pairs: 1 single responses joined by prompt" in printed
    assert "data.pairs: 1 made of scores by data.convert.scores: all_pairs" in printed
    # sigmoid((3.5 - 1.5) / 2)
    assert "p 0.731059" in printed


@pytest.mark.parametrize(
    ("row", "said"),
    [({"prompt": "Say 1.", "responses": ["1", "2"], "ranks": [1]}, "ranks has 1 entries, but responses has 2"),
     ({"messages": [{"role": "critic", "content": "x"}, {"role": "assistant", "content": "1"}]},
      "message 1 of messages has the unknown role 'critic'")],
)  # fmt: skip
def test_what_cannot_be_read_is_named_and_shown_as_nothing_else(
    chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: dict[str, Any], said: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    assert main(["inspect", str(file), "--model", str(chat_model)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert f"{file} row 1: " in printed.err
    assert said in printed.err


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([DEMONSTRATION, DEMONSTRATION, PAIR], "row 3: this row is a pair, and {file} row 1 is not a pair;"),
        ([PROMPT, PAIR], "row 2: this row is a pair, and {file} row 1 is not a pair;"),
        ([PAIR, DEMONSTRATION], "row 2: one response, and no label, score or rank to compare it by; "),
        ([DEMONSTRATION, PROMPT], "row 2: a demonstration needs messages"),
    ],
)
def test_rows_of_several_kinds_are_an_error(
    chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], says: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["inspect", str(file), "--model", str(chat_model)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert f"error: {file} {says.format(file=file)}" in printed.err


def test_a_conversation_that_asks_is_a_prompt(
    chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    asked = [{"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Say 1."}]
    file.write_text(json.dumps({"messages": asked}) + "\n")
    assert main(["inspect", str(file), "--model", str(chat_model)]) == 0
    assert f"data.prompts: {file}" in capsys.readouterr().out


def test_columns_that_are_not_read_are_told_by_their_names(
    chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(",question,prompt,chosen,rejected\n0,Say 1.,?,1,No.\n")
    flags = ["--data.pairs.columns.prompt", "question"]
    assert main(["inspect", str(file), "--model", str(chat_model), *flags]) == 0
    printed = capsys.readouterr().out
    assert "data.pairs: columns not read: '', prompt of the file\n" in printed
    assert "Say 1. ‖ 1</s>" in printed


def test_keys_of_the_data_are_flags(chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": "Say 1.", "good": "1", "bad": "No."}) + "\n")
    flags = ["--data.as_chat", "true", "--data.pairs.columns", "{chosen: good, rejected: bad}", "--examples", "1"]
    assert main(["inspect", str(file), "--model", str(chat_model), *flags]) == 0
    assert "<|user|>Say 1.</s><|assistant|> ‖ 1</s>" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "flags", "says"),
    [
        ("rows.jsonl", (), ["--model"]),
        ("rows.jsonl", ("--model",), ["error: argument --model: expected one argument"]),
        ("nowhere.jsonl", ("--model", "{model}"), ["nowhere.jsonl"]),
        ("odd.jsonl", ("--model", "{model}"), ["odd.jsonl row 1", "chosen and rejected"]),
    ],
)
def test_mistakes_are_one_line(
    chat_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    flags: tuple[str, ...],
    says: list[str],
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(PAIR) + "\n")
    (tmp_path / "odd.jsonl").write_text(json.dumps({"question": "x", "answer": "y"}) + "\n")
    assert main(["inspect", str(tmp_path / name), *(flag.format(model=chat_model) for flag in flags)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for word in says:
        assert word in error


def test_a_run_on_prompts_alone_shows_its_prompts(
    chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Say {number}."}) + "\n" for number in range(6)))
    flags = ["--out", "x", "--policy.model", str(chat_model), "--data.prompts.path", str(file), "--rounds", "1"]
    flags += ["--rlhf.method", "grpo", "--rlhf.reward", "m:f", "--data.heldout_fraction", "0.34"]
    assert main(["inspect", *flags, "--examples", "1"]) == 0
    printed = capsys.readouterr().out
    assert "4 prompts to answer, 2 prompts held out" in printed
    assert ": 6 tokens" in printed


@pytest.mark.parametrize("share", [0.5, 0.6])
def test_most_prompts_that_are_cut_are_a_warning(
    chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    file = tmp_path / "prompts.jsonl"
    texts = ["Say 1." * 3 if number < 10 * share else "Say 1." for number in range(10)]
    file.write_text("".join(json.dumps({"prompt": f"{text}{number}"}) + "\n" for number, text in enumerate(texts)))
    assert main(["inspect", str(file), "--model", str(chat_model), "--data.max_length", "16"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    warning = (
        "warning: data.prompts: 60.0% of the prompts lose their beginning, because they exceed data.max_prompt_length; "
        "raise it (by default it is three quarters of data.max_length)"
    )
    assert (warning in printed) == (share > 0.5)
