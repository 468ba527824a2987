"""Rows of every format, changed at random, read and encoded with several tokenizers and templates."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from data import tiny_tokenizers as tiny

from fuzz.target import Target
from fuzz.values import mutated, text, value
from seralign.config import DataConfig
from seralign.data.content import Unencoded
from seralign.data.formats import read_demonstration, read_example, read_prompt
from seralign.data.raw import Drop, RawPrompt
from seralign.data.tokens import make_encoder

TEMPLATES = [
    None, tiny.CHATML, tiny.LLAMA3, tiny.MISTRAL, tiny.ZEPHYR, tiny.QWEN3, tiny.NO_THINKING, tiny.GEMMA
]  # fmt: skip
TOKENIZERS = [tiny.byte_bpe, tiny.metaspace, tiny.word_level]

_ASK = {"role": "user", "content": "What is the capital of France?"}
_GOOD, _BAD = {"role": "assistant", "content": "Paris."}, {"role": "assistant", "content": "Bread."}
_CALL = {"role": "assistant", "content": None, "tool_calls": [
    {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
]}  # fmt: skip
_THOUGHT = {"role": "assistant", "content": "<think>\nIt is so.\n</think>\n\nParis."}
_PARTS = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
_TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": {}}}
_HH = "\n\nHuman: Hi\n\nAssistant:"

PAIRS: list[dict[str, Any]] = [
    {"prompt": "The sky is", "chosen": " blue", "rejected": " green", "p": 0.8, "weight": 2.0, "pair_id": "a"},
    {"prompt": [_ASK], "chosen": [_GOOD], "rejected": [_BAD]},
    {"prompt": [_ASK], "chosen": [_ASK, _GOOD], "rejected": [_ASK, _BAD], "score_chosen": 3, "source": "x"},
    {"prompt": "What?", "chosen": [{"role": "user", "content": "What?"}, _GOOD], "rejected": [_BAD]},
    {"chosen": [_ASK, _GOOD], "rejected": [_ASK, _BAD]},
    {"chosen": f"{_HH} Hello", "rejected": f"{_HH} Go away"},
    {"prompt": [_ASK], "chosen": _GOOD, "rejected": _BAD},
    {"prompt": [_ASK, _CALL, {"role": "tool", "content": "sunny"}], "chosen": [_GOOD], "rejected": [_CALL],
     "tools": [_TOOL]},
    {"prompt": [_PARTS], "chosen": [_THOUGHT], "rejected": [_BAD], "chat_template_kwargs": {"enable_thinking": False}},
    {"system": "Be brief.", "prompt": "What?", "chosen": "Blue", "rejected": "A tree", "history": [["a", "b"]]},
    {"prompt": "What?", "response_a": "Nine.", "response_b": "Seven.", "p_b": 0.97},
    {"prompt_ids": [5, 6, 7], "chosen_ids": [8, 1], "rejected_ids": [9, 1]},
    {"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "Hello"},
     "rejected": {"from": "gpt", "value": "What"}},
    {"input": {"messages": [_ASK], "tools": [_TOOL], "parallel_tool_calls": True}, "preferred_output": [_GOOD],
     "non_preferred_output": [_BAD]},
    {"prompt": [{"role": "system", "content": "Be brief."}, _ASK, _GOOD, _ASK], "chosen": [_GOOD], "rejected": [_BAD],
     "documents": [{"title": "a", "text": "b"}]},
]  # fmt: skip
DEMONSTRATIONS: list[dict[str, Any]] = [
    {"prompt": "The sky is", "response": " blue"},
    {"prompt": [_ASK], "completion": [_GOOD]},
    {"messages": [_ASK, _GOOD], "weight": 0.5},
    {"prompt_ids": [5, 6], "response_ids": [7, 1]},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    *PAIRS[:3],
]
OTHERS: list[dict[str, Any]] = [
    {"prompt": _HH, "answers": [{"answer": "Hello", "rank": 2.0}, {"answer": "Go away", "rank": 1.0}]},
    {"prompt": [_ASK], "responses": [_GOOD, _BAD, [_GOOD]], "ranks": [1, 2, 3], "weight": 2.0},
    {"messages": [_ASK], "completions": [{"response": "a", "overall_score": 1}, {"response": "b", "overall_score": 2}]},
    {"prompt": "The sky is", "completion": " blue", "label": True, "pair_id": "a"},
    {"messages": [_ASK, _GOOD], "kto_tag": "false"},
    {"prompt": "The sky is", "response": " blue", "helpfulness": 3.5},
    {"prompt": [_ASK], "response": _GOOD, "rank": 1},
]
PROMPTS: list[dict[str, Any]] = [
    {"prompt": "The sky is"}, {"prompt": [_ASK]}, {"messages": [_ASK, _GOOD]}, {"prompt_ids": [5, 6]}, *PAIRS[:3]
]  # fmt: skip
SETTINGS: list[dict[str, Any]] = [
    {}, {"as_chat": True}, {"as_chat": True, "system": "Be brief."}, {"max_length": 12}, {"overlong": "drop"},
    {"max_length": 20, "max_prompt_length": 3}, {"format": "hh"}, {"chat_template_kwargs": {"enable_thinking": False}},
    {"roles": {"narrator": "assistant"}},
]  # fmt: skip
READERS = {"pair": (read_example, [*PAIRS, *OTHERS]), "demonstration": (read_demonstration, DEMONSTRATIONS),
           "prompt": (read_prompt, PROMPTS)}  # fmt: skip


@dataclass(frozen=True)
class RowInput:
    """A row, and what it is read with."""

    kind: str
    row: Any
    settings: int
    tokenizer: int
    template: int


def make(source: random.Random) -> RowInput:
    """A valid row of some format, changed; now and then a row of nothing that anyone has."""
    kind = source.choice(["pair", "pair", "pair", "demonstration", "prompt"])
    valid = READERS[kind][1]
    row = mutated(source, source.choice(valid))
    if source.random() < 0.05:
        row = {text(source): value(source) for _ in range(source.randrange(5))}
    if not isinstance(row, dict):
        row = source.choice(valid)
    settings, tokenizer = source.randrange(len(SETTINGS)), source.randrange(len(TOKENIZERS))
    return RowInput(kind, row, settings, tokenizer, source.randrange(len(TEMPLATES)))


def read(made: RowInput, folder: Path) -> None:
    """Read the row, and encode what comes out."""
    read_row(made.kind, made.row, DataConfig(**SETTINGS[made.settings]), _tokenizer(made.tokenizer, made.template))


def read_row(kind: str, row: Any, data: DataConfig, tokenizer: Any) -> None:
    """Read a row as a pair, a demonstration or a prompt, and encode it."""
    found = READERS[kind][0](row, "pairs.jsonl row 1")
    if isinstance(found, Drop):
        return
    encoder = make_encoder(tokenizer, data, frozenset({1}))
    responses = () if isinstance(found, RawPrompt) else found.responses
    encoder.encode([Unencoded(found.prompt, responses, found.where)])


@cache
def _tokenizer(tokenizer: int, template: int) -> Any:
    return TOKENIZERS[tokenizer](TEMPLATES[template])


ROWS = Target("rows", 0.818, make, read)
