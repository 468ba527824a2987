"""Texts packed for a page: JSON, gzip in base64, limited in bytes by cutting texts and leaving out prompts."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from typing import Any

# Longest texts in characters, prompts and answers; the first that fits is taken.
LEVELS = (10**9, 4000, 1500, 600, 300)


def fewer(count: int) -> Iterator[int]:
    """Numbers of prompts to try, from all to none."""
    while count:
        yield count
        count //= 2
    yield 0


def cut_text(text: str, longest: int) -> tuple[str, int]:
    """The text's first characters, and how many are missing."""
    return text[:longest], max(0, len(text) - longest)


def block(value: Any) -> str:
    """A JSON value as gzip in base64."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode("ascii")
