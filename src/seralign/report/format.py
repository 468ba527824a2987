"""Text from data and models, made safe to display."""

from __future__ import annotations

import re

# Control characters but newline and tab, marks that change the direction of text, characters that cannot be seen, and
# halves of surrogate pairs. The same list is in templates/page.js. Zero-width joiners stay: scripts and emoji need
# them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """Text for display: characters that are invisible, or that reorder the text around them, are named instead.

    Half a surrogate becomes the replacement character, so that the result can always be written as UTF-8.
    """
    return _UNSEEN.sub(_name, text)


def _name(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"⟨U+{code:04X}⟩"
