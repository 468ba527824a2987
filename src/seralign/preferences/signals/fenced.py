"""The code or data that a response has in a block of Markdown."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"^ {0,3}(```+|~~~+)[^\n]*\n(.*?)^ {0,3}\1[ \t]*$", re.MULTILINE | re.DOTALL)


def fenced(text: str) -> str:
    """The contents of the last fenced block of a text; the text itself if it has none."""
    blocks = _BLOCK.findall(text)
    return blocks[-1][1] if blocks else text
