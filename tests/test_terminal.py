"""Text of rows, paths and keys on a terminal: shown as it is, or as escapes where a terminal would obey or hide it."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from seralign import progress, terminal
from seralign.cli import console as cli_console
from seralign.cli.main import main
from seralign.terminal import error_line, printable, printable_line

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ‖ and ünïcode\n\ttoo", "plain, ‖ and ünïcode\n\ttoo"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\x9b2J\x7f\x00", "a\\x9b2J\\x7f\\x00"),
        ("over\rwritten\r\n", "over\\rwritten\\r\n"),
        ("admin\u202e\u2066fdp.exe\u2069", "admin\\u202e\\u2066fdp.exe\\u2069"),
        ("\u200e\u200f\u061c", "\\u200e\\u200f\\u061c"),
        ("a\u2028b\u2029c\u200bd\ufeff\xad", "a\\u2028b\\u2029c\\u200bd\\ufeff\\xad"),
        ("\U000e0041\U000e0100", "\\U000e0041\\U000e0100"),
        ("broken \udcff", "broken \\udcff"),
        (f"{FAMILY} ❤\ufe0f‍🔥 1\ufe0f⃣ می‌خواهم", f"{FAMILY} ❤\ufe0f‍🔥 1\ufe0f⃣ می‌خواهم"),
        ("pass\u200dword\u200c", "pass\\u200dword\\u200c"),
        ("é\u200d\u200d", "é\u200d\\u200d"),
        ("a\ufe01\ufe02\ufe03", "a\ufe01\\ufe02\\ufe03"),
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_an_error_is_one_line() -> None:
    assert printable_line("a\nb\tc\x85d") == "a\\nb\\tc\\x85d"


def test_an_error_is_no_longer_than_anyone_reads() -> None:
    assert error_line("x" * 1000) == "x" * 1000
    line = error_line(f"run.yaml: {'a' * 5000}\n: unknown key")
    assert line.startswith("run.yaml: aaa")
    assert line.endswith("aaa\\n: unknown key")
    assert len(line) == 1000 + len(" […] ")


@given(st.text(st.characters()))
def test_no_text_reaches_the_terminal_with_a_control_in_it(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(character) for character in shown} & {"Cs", "Zl", "Zp"}
    assert not any(unicodedata.category(character) == "Cc" for character in shown if character not in "\n\t")
    assert not any(unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF") for character in shown)
    assert not any(unicodedata.bidirectional(character) in ("LRI", "RLI", "FSI", "PDI") for character in shown)
    assert len(printable_line(text).splitlines()) <= 1
    shown.encode()


def test_no_command_can_forget_it(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("a\x1b[2Jb")
    table.add_row(Text("c\u202ed"))
    console = cli_console.stdout()
    console.print("e\x1bf", table, Text("g\udcffh", style="bold"))
    cli_console.tell("i\x1b" + "j" * 300)
    shown = capsys.readouterr().out
    for text in ("e\\x1bf", "a\\x1b[2Jb", "c\\u202ed", "g\\udcffh", "i\\x1b" + "j" * 300 + "\n"):
        assert text in shown


def test_styles_stay(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    terminal.console(width_in_files=80).print(Text("a\x1bb", style="bold"))
    assert capsys.readouterr().out == "\x1b[1ma\\x1bb\x1b[0m\n"


def test_progress_says_it_as_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "console", terminal.console(stderr=True, width_in_files=140))
    progress.say("data.pairs: [red]x\x1b[2J\r")
    with progress.bar("a\x1bb", 1) as bar:
        bar.note("c\x9bd")
        bar.advance()
    first, second = capsys.readouterr().err.splitlines()
    assert first == "data.pairs: [red]x\\x1b[2J\\r"
    assert second.startswith("a\\x1bb: 1/1")
    assert second.endswith("c\\x9bd")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["show", "no\x1b[31m\nwhere"], "no\\x1b[31m\\nwhere"),
        (["train", "no\u202ewhere.yaml"], "no\\u202ewhere.yaml"),
        (["train", os.fsdecode(b"no\xffwhere.yaml")], "no\\udcffwhere.yaml"),
        (["fro\x1bbnicate"], "fro\\x1bbnicate"),
    ],
)
def test_error_lines_are_one_line_of_text(
    arguments: list[str],
    shown: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert shown in error
    assert error.count("\n") == 1
    assert error.startswith("error: ")
