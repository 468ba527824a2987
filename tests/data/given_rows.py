"""Rows as users have them, and what becomes of one."""

from __future__ import annotations

from typing import Any

import pytest

from seralign.config import DataConfig
from seralign.data.formats import read_pair
from seralign.data.place import reading
from seralign.data.raw import RawExample
from seralign.errors import DataError


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


PLAIN = {"prompt": "Q", "chosen": "a", "rejected": "b"}
CHAT = {"prompt": [user("Q")], "chosen": [assistant("a")], "rejected": [assistant("b")]}


def pair(row: dict[str, Any], **data: Any) -> RawExample:
    """A row of ``data.pairs``, which has to be one that is trained on."""
    raw = read_pair(row, "f row 1", reading(DataConfig(**data), "data.pairs"))
    assert isinstance(raw, RawExample), raw
    return raw


def refusal(row: dict[str, Any], **data: Any) -> str:
    """The error that a row of ``data.pairs`` is refused with."""
    with pytest.raises(DataError, match=r"^f row 1: ") as error:
        read_pair(row, "f row 1", reading(DataConfig(**data), "data.pairs"))
    return str(error.value)
