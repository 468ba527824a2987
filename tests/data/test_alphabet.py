"""Characters that a tokenizer silently drops are found, and rows with them are dropped, counted and named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_tokenizers as tiny
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from seralign.config import DataConfig, SourceConfig
from seralign.data.alphabet import dropped_by
from seralign.data.content import Unencoded
from seralign.data.prepare import prepare_pairs
from seralign.data.tokens import PROMPT_CHARACTERS, RESPONSE_CHARACTERS, make_encoder
from seralign.errors import DataError
from seralign.tables import counted


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens([AddedToken("</s>", special=True, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def letters(known: str, **settings: bool | str) -> PreTrainedTokenizerFast:
    """A BPE without merges, with spaces as in Llama."""
    vocabulary = {token: number for number, token in enumerate(["▁", *known])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], **settings))  # pyright: ignore
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return wrapped(tokenizer)


def of_bytes(without: bytes) -> PreTrainedTokenizerFast:
    reader = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    missing = {letter for byte in without for letter in reader.pre_tokenize_str(chr(byte))[0][0]}
    alphabet = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - missing)
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return wrapped(tokenizer)


def dropped(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    found = dropped_by(tokenizer)
    assert found is not None
    return found(text)


def test_characters_without_a_token_by_hand() -> None:
    tokenizer = letters("abc")
    assert dropped(tokenizer, "a cab") == []
    assert dropped(tokenizer, "a dad é🙂d</s>") == ["d", "é", "🙂"]
    assert tokenizer.decode(tokenizer("a dad")["input_ids"]) == "a a", "what it does to them"
    assert dropped(of_bytes(b"\x04"), "é\x04\x05") == ["\x04"]


def test_what_a_normalizer_changes_is_not_dropped() -> None:
    tokenizer = letters("abc")
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])  # fmt: skip
    assert dropped(tokenizer, "Ä B") == []
    assert dropped(tokenizer, "Ä D") == ["D"]


@pytest.mark.parametrize("make", [tiny.byte_bpe, tiny.metaspace, tiny.word_level])
def test_tokenizers_with_bytes_or_a_token_for_unknown_text_drop_nothing(make: object) -> None:
    assert dropped_by(make()) is None  # pyright: ignore


def test_bytes_as_a_fallback_and_an_unknown_token_drop_nothing() -> None:
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)}
    assert dropped_by(wrapped(Tokenizer(models.BPE(vocabulary, [], byte_fallback=True)))) is None
    unknown = Tokenizer(models.BPE({"<unk>": 0, "a": 1}, [], unk_token="<unk>"))
    assert dropped_by(wrapped(unknown)) is None
    del vocabulary["<0x0A>"]
    assert dropped(wrapped(Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))), "\n") == ["\n"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
def test_a_text_of_which_nothing_is_dropped_comes_back(text: str) -> None:
    tokenizer = TOKENIZER
    back = tokenizer.decode(tokenizer(text)["input_ids"], clean_up_tokenization_spaces=False)
    assert (dropped(tokenizer, text) == []) == (back == text)


TOKENIZER = of_bytes(b"\x04\x06a")


def test_rows_are_dropped_counted_and_named(tmp_path: Path) -> None:
    encoder = make_encoder(letters("abc"), DataConfig(), frozenset())
    rows = [("ab", "a", "b"), ("ab", "ad", "c"), ("a", "aé", "b"), ("d", "a", "b"), ("ab", "c", "a")]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(dict(zip(("prompt", "chosen", "rejected"), row, strict=True))) + "\n"
                            for row in rows))  # fmt: skip
    table, figures = prepare_pairs(SourceConfig(str(file)), encoder, tmp_path / "pairs.arrow", "data.pairs")
    assert len(table) == figures.kept == 2
    assert figures.dropped == {RESPONSE_CHARACTERS: 2, PROMPT_CHARACTERS: 1}
    assert figures.first == {RESPONSE_CHARACTERS: f"{file} row 2: 'd'", PROMPT_CHARACTERS: f"{file} row 4: 'd'"}
    assert counted(figures.located(figures.dropped)) == (
        f"2 response with characters that the tokenizer (policy.tokenizer) drops (first {file} row 2: 'd'), "
        f"1 prompt with characters that the tokenizer (policy.tokenizer) drops (first {file} row 4: 'd')"
    )
    file.write_text(json.dumps({"prompt": "d", "chosen": "a", "rejected": "b"}) + "\n")
    with pytest.raises(DataError, match=r"none of its 1 rows can be used: 1 prompt with characters .* row 1: 'd'\)$"):
        prepare_pairs(SourceConfig(str(file)), encoder, tmp_path / "none.arrow", "data.pairs")
    # Token ids are used as they are.
    assert not isinstance(encoder.encode([Unencoded((1, 2), ((1,), (2,)), "row 1")])[0], str)
