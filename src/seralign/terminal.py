"""Safe terminal output: text from rows, paths, keys and models cannot control the terminal or hide characters."""

from __future__ import annotations

import re

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook, RenderResult
from rich.segment import Segment

# Control characters except newline and tab, invisible format characters, direction overrides, line separators that
# editors do not count, lone surrogates (bytes of a path that are not text), and the blocks of tags and supplementary
# variation selectors, which can carry hidden text. Joiners, which Arabic, Hebrew and other scripts need, are below.
_UNSAFE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
# Joiners shape emoji and many scripts, but are invisible between plain letters. One variation selector belongs to the
# character before it; several in a row can carry hidden text.
_PATTERN = re.compile(
    f"[{_UNSAFE}]"
    "|(?<![\u00a0-\U0010ffff])[\u200c\u200d]|(?<=[\u200c\u200d])[\u200c\u200d]"
    "|(?:^|(?<=[\ufe00-\ufe0f\\s]))[\ufe00-\ufe0f]"
)
# Longest error line, in characters.
_LONGEST = 1000
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    """Replace everything that a terminal obeys or does not show by a visible escape: ``\\x1b``, ``\\u202e``.

    Newlines and tabs stay. So do joiners and variation selectors that shape emoji or letters.
    """
    return text if text.isascii() and text.isprintable() else _PATTERN.sub(_escape, text)


def printable_line(text: str) -> str:
    """``printable`` text on a single line; newlines and tabs become escapes too."""
    return re.sub("[\n\t]", _escape, printable(text))


def error_line(text: str) -> str:
    """An error as ``printable_line``; a very long one loses its middle."""
    line = printable_line(text)
    if len(line) <= _LONGEST:
        return line
    end = _LONGEST // 4
    return f"{line[: _LONGEST - end]} […] {line[-end:]}"


def console(*, stderr: bool = False, width_in_files: int) -> Console:
    """A console that prints all text as ``printable``.

    Args:
        stderr: Print to standard error instead of standard output.
        width_in_files: Width in columns if the output is not a terminal.
    """
    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal:
        made = Console(stderr=stderr, highlight=False, width=width_in_files)
    made.push_render_hook(_Printable())
    return made


class _Printable(RenderHook):
    """Applied to everything that is printed, so that no command can forget it; rich's styles are kept."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(renderable) for renderable in renderables]


class _Shown:
    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
