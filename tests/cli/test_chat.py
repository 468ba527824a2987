"""``seralign chat``: a policy is asked as it was trained, and nothing that it writes reaches the terminal raw."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from seralign.cli.main import main
from seralign.policy.quiet import quiet_transformers
from seralign.policy.sampling import SamplingParams, sample
from seralign.records import Prompt, content_id
from seralign.terminal import printable

FLAGS = ("--max_new_tokens", "12", "--temperature", "0.8", "--top_p", "0.9", "--seed", "5")
PARAMS = SamplingParams(1, 0.8, 0.9, 12)


def chat(monkeypatch: pytest.MonkeyPatch, text: str, *arguments: str | Path) -> int:
    """The command, with ``text`` on its standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    return main(["chat", *map(str, arguments)])


def expected(run: Path, adapter: Path | None, messages: list[dict[str, str]]) -> str:
    """The answer to a conversation by transformers' template, PEFT's loading and the run's own sampler."""
    tokenizer = AutoTokenizer.from_pretrained(run / "result")
    with quiet_transformers():
        model: Any = AutoModelForCausalLM.from_pretrained(run.parents[1] / "base")
        model = model if adapter is None else PeftModel.from_pretrained(model, str(adapter))
    whole = [{"role": "system", "content": "Be brief."}, *messages]
    text = tokenizer.apply_chat_template(whole, tokenize=False, add_generation_prompt=True)
    ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    prompt = Prompt(content_id(ids), text, ids)
    return sample(model.eval(), tokenizer, [prompt], PARAMS, frozenset({tokenizer.eos_token_id}), 5)[0].text


@pytest.fixture
def run(lora_run: Path, chat_model: Path, tmp_path: Path) -> Path:
    """The run, and the base beside its folder."""
    (tmp_path / "base").symlink_to(chat_model)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "talk").symlink_to(lora_run)
    return tmp_path / "runs" / "talk"


def test_a_conversation_is_that_of_the_template(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat(monkeypatch, "Say 7.\n\nAgain.\n/new\nSay 7.\n/quit\nnever read\n", run, *FLAGS) == 0
    first = expected(run, run / "result", [{"role": "user", "content": "Say 7."}])
    said = [{"role": "user", "content": "Say 7."}, {"role": "assistant", "content": first}]
    second = expected(run, run / "result", [*said, {"role": "user", "content": "Again."}])
    assert first.strip()
    assert first != second
    answers = [printable(text.rstrip()) for text in (first, second, first)]
    lines = ["> Say 7.", answers[0], "> Again.", answers[1], "> /new", "> Say 7.", answers[2], "> /quit"]
    assert capsys.readouterr().out == "".join(line + "\n" for line in lines)


def test_without_standard_input_there_is_nothing_to_answer(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["chat", str(run)]) == 0
    sys.stdin.close()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "adapters"),
    [
        (("--beside", "start"), ("result", None)),
        (("--round", "1", "--beside", "2"), ("round-1/train/policy", "round-2/train/policy")),
        (("--start", "--beside", "{run}"), (None, "result")),
        (("--beside", "{run}/round-1/train/policy"), ("result", "round-1/train/policy")),
        (("--beside", "{run}", "--beside_round", "1"), ("result", "round-1/train/policy")),
        (("--round", "1", "--beside", "{run}", "--beside_round", "start"), ("round-1/train/policy", None)),
    ],
)
def test_two_policies_answer_the_same_prompt(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    adapters: tuple[str | None, str | None],
) -> None:
    filled = [argument.format(run=run) for argument in arguments]
    assert chat(monkeypatch, "Say 7.\n", run, *filled, "--system", "Be brief.", *FLAGS) == 0
    printed = capsys.readouterr().out
    for adapter in adapters:
        text = expected(run, adapter and run / adapter, [{"role": "user", "content": "Say 7."}])
        assert f"]\n{printable(text.rstrip())}\n" in printed
    assert printed.count("[") >= 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("{run}", "--round", "3"), ["no round 3", "result, round 1, round 2, starting policy"]),
        (("{run}", "--beside", "baseline"), ["no baseline"]),
        (("{run}", "--beside", "{run}", "--beside_round", "3"), ["no round 3"]),
        (("{run}", "--beside", "{run}", "--beside_round", "last"), ["--beside_round must be the number of a round"]),
        (("{run}", "--beside", "{run}/result", "--beside_round", "1"), ["run.json", "round 1"]),
        (("{run}", "--beside_round", "1"), ["--beside_round needs --beside"]),
        (("{run}/result", "--round", "1"), ["run.json", "round 1"]),
        (("{run}/data",), ["has no run (run.json), model (config.json) or adapter"]),
        (("{run}", "--temperature", "-1"), ["--temperature", "at least 0"]),
        (("{run}", "--top_p", "1.5"), ["--top_p"]),
        (("{run}", "--plain", "--system", "x"), ["--system", "plain text"]),
        (("./nowhere",), ["nowhere"]),
    ],
)
def test_mistakes_are_one_line(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    says: list[str],
) -> None:
    assert chat(monkeypatch, "", *(argument.format(run=run) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for word in says:
        assert word in error


def test_a_run_without_a_result_says_what_it_has(
    lora_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for entry in lora_run.iterdir():
        if entry.name not in ("result", "round-2"):
            (tmp_path / entry.name).symlink_to(entry)
    assert chat(monkeypatch, "", tmp_path) == 2
    assert "no result; it has: round 1, starting policy" in capsys.readouterr().err


def test_a_conversation_beyond_the_window_is_refused(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat(monkeypatch, "x" * 1100 + "\n", chat_model, *FLAGS) == 2
    assert "takes at most 1024" in capsys.readouterr().err


def test_plain_text_is_continued(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from seralign.sampling import local

    seen: list[str] = []
    whole = local.sample

    def watched(*arguments: Any, **named: Any) -> Any:
        seen.append(arguments[2][0].text)
        return whole(*arguments, **named)

    monkeypatch.setattr(local, "sample", watched)
    assert chat(monkeypatch, "Once upon\na time\n", chat_model, "--plain", *FLAGS) == 0
    assert seen == ["Once upon", "a time"]


def test_what_a_model_writes_cannot_move_the_cursor(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from seralign.sampling import local

    whole = local.sample

    def evil(*arguments: Any, **named: Any) -> Any:
        watch = named["watch"]
        del named["watch"]
        assert watch is not None
        return [replace(whole(*arguments, **named)[0], text="red \x1b[31m \u202e end")]

    monkeypatch.setattr(local, "sample", evil)
    assert chat(monkeypatch, "hello\x1b[1m\n", chat_model, *FLAGS) == 0
    assert capsys.readouterr().out == "> hello\\x1b[1m\nred \\x1b[31m \\u202e end\n"


def test_at_a_terminal_it_asks_and_shows_both_side_by_side(run: Path) -> None:
    command = [sys.executable, "-m", "seralign.cli.main", "chat", "talk", "--beside", "start", *FLAGS]
    parent, child = pty.openpty()
    environment = os.environ | {"COLUMNS": "100", "TERM": "dumb"}
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment, cwd=run.parent)
    os.close(child)
    seen = _until(parent, b"> ")
    assert b"/quit or Ctrl-D ends" in seen
    os.write(parent, b"Say 7.\n")
    seen = _until(parent, b"> ")
    header = next(line for line in seen.splitlines() if b"round 2 of talk, its result" in line)
    assert b"starting policy of talk" in header
    os.write(parent, b"\x04")
    assert process.wait(timeout=60) == 0
    os.close(parent)


def _until(terminal: int, end: bytes) -> bytes:
    """What a terminal shows up to a prompt sign, or what it showed in a minute."""
    seen, deadline = b"", time.monotonic() + 60
    while not seen.endswith(end):
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, seen
        seen += os.read(terminal, 4096)
    return seen
