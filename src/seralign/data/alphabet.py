"""Characters that a tokenizer silently drops: BPE has no token for them, no bytes, and no token for unknown text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Dropped = Callable[[str], list[str]]
"""The different characters of a text that a tokenizer drops, in order."""


def dropped_by(tokenizer: PreTrainedTokenizerBase) -> Dropped | None:
    """What a tokenizer drops of a text; None if it drops nothing.

    A normalizer or a pre-tokenizer may leave out characters, too, such as accents or spaces. That is how the tokenizer
    reads text, and is not counted.
    """
    from tokenizers import models

    # Not all tokenizers have one, and its types are not declared.
    anything: Any = tokenizer
    backend: Any = getattr(anything, "backend_tokenizer", None)
    if backend is None:
        return None
    model = backend.model
    if not isinstance(model, models.BPE) or model.unk_token is not None:
        return None
    vocabulary = backend.get_vocab(with_added_tokens=False)
    if model.byte_fallback and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256)):
        return None
    before, after = model.continuing_subword_prefix or "", model.end_of_word_suffix or ""
    bare = (token.removeprefix(before).removesuffix(after) for token in vocabulary)
    known = {token for token in bare if len(token) == 1}
    if "ByteLevel" in repr(backend.pre_tokenizer):
        missing = bytes(byte for byte, letter in _letters() if letter not in known)
        return partial(_with_bytes, missing) if missing else None
    added = sorted(map(str, anything.get_added_vocab()), key=len, reverse=True)
    # No text matches a set of nothing.
    return partial(_without_token, backend, known, re.compile("|".join(map(re.escape, added)) or r"[^\s\S]"))


def _with_bytes(missing: bytes, text: str) -> list[str]:
    """The characters of which a byte has no token."""
    if not any(byte in missing for byte in set(text.encode("utf-8", "surrogatepass"))):
        return []
    return [one for one in dict.fromkeys(text) if set(one.encode("utf-8", "surrogatepass")) & {*missing}]


def _without_token(backend: Any, known: set[str], added: re.Pattern[str], text: str) -> list[str]:
    """The characters that no token has. ``added`` matches added tokens, which are no words."""
    lacking = _characters(backend, added, text) - known
    if not lacking:
        return []
    # A character that the normalizer makes of several ones is named as it makes it.
    return [one for one in dict.fromkeys(added.sub("", text)) if _characters(backend, added, one) - known] or sorted(
        lacking
    )


def _characters(backend: Any, added: re.Pattern[str], text: str) -> set[str]:
    """The characters of the words that are given to the model."""
    found: set[str] = set()
    for part in added.split(text):
        whole = part if backend.normalizer is None else backend.normalizer.normalize_str(part)
        words = [(whole, None)] if backend.pre_tokenizer is None else backend.pre_tokenizer.pre_tokenize_str(whole)
        found.update(*(word for word, _ in words))
    return found


def _letters() -> Iterator[tuple[int, str]]:
    """The bytes that text in UTF-8 may have, and the letters that stand for them in vocabularies of bytes."""
    from tokenizers import pre_tokenizers

    reader = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    # Of one and two bytes; and for each first byte of three and four bytes a character.
    points = [*range(0x800), *range(0x800, 0xE000, 0x800), 0xE000, 0xF000, *range(0x10000, 0x110000, 0x10000)]
    text = "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)
    found: dict[int, str] = {}
    for word, _ in reader.pre_tokenize_str(text):
        found |= zip(text.encode(), word, strict=True)
    yield from found.items()
