"""The data of the benchmarks, made from AlpacaEval pairs: conversations with a chosen and a rejected answer.

Both sides are given the same texts and tokenize them on their own. What is used is chosen by length: rows at even
distances in the order of length, so that a small number has the lengths of the whole.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from benchmarks.models import WINDOW

Message = dict[str, str]
Row = dict[str, Any]
TURNS, PROMPT_TOKENS, RESPONSE_TOKENS = 4, 400, 80
CANDIDATES = 8
_SEED = 0
_ANSWER: Message = {"role": "assistant", "content": ""}


def read_pairs(path: Path) -> list[Row]:
    """The rows of a file of pairs (.jsonl or .jsonl.gz): ``prompt_id``, ``prompt``, ``response_a`` and so on."""
    content = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines()]


def texts(raw: Sequence[Row]) -> list[str]:
    """All prompts and responses, for a tokenizer."""
    return [row[name] for row in raw for name in ("prompt", "response_a", "response_b")]


def alpaca_pairs(raw: Sequence[Row], tokenizer: PreTrainedTokenizerFast, count: int) -> list[Row]:
    """``count`` pairs that fit the window, in random order, as training sees them."""
    rows = evenly(_fitting([_pair(row) for row in raw], tokenizer), count)
    random.Random(_SEED).shuffle(rows)
    return rows


def alpaca_prompts(raw: Sequence[Row], tokenizer: PreTrainedTokenizerFast, count: int) -> list[Row]:
    """All pairs of ``count`` prompts that fit the window, the pairs of a prompt one after the other."""
    groups: dict[Any, list[Row]] = {}
    for row in _fitting([_pair(row) | {"group": row["prompt_id"]} for row in raw], tokenizer):
        groups.setdefault(row.pop("group"), []).append(row)
    chosen = evenly(
        [{"tokens": sum(row["tokens"] for row in group), "rows": group} for group in groups.values()], count
    )
    random.Random(_SEED).shuffle(chosen)
    return [row for group in chosen for row in group["rows"]]


def long_prompts(raw: Sequence[Row], tokenizer: PreTrainedTokenizerFast, count: int) -> list[Row]:
    """``count`` pairs with prompts of 400 tokens in four turns and responses of 80 tokens, end token counted.

    The last turn is the pair's own; the earlier ones are instructions and answers of other rows. Texts are cut where
    their tokens end and kept only if they are tokenized the same way again.
    """
    order = list(raw)
    random.Random(_SEED).shuffle(order)
    found: list[Row] = []
    for at, row in enumerate(order):
        if len(found) == count:
            break
        others = [order[(at + step) % len(order)] for step in range(1, TURNS)]
        prompt = _dialogue([*others, row], tokenizer)
        answers = [_cut(row[name], RESPONSE_TOKENS - 1, tokenizer) for name in ("response_a", "response_b")]
        if prompt is None or None in answers or answers[0] == answers[1]:
            continue
        worse, better = answers if row["p_b"] > 0.5 else answers[::-1]
        found.append(_row(prompt, str(better), str(worse)) | {"tokens": 2 * (PROMPT_TOKENS + RESPONSE_TOKENS)})
    return _enough(found, count)


def candidate_groups(raw: Sequence[Row], tokenizer: PreTrainedTokenizerFast, count: int) -> list[Row]:
    """``count`` prompts of 400 tokens in four turns, as in :func:`long_prompts`, with eight different candidates of at
    most 80 tokens each, end token counted.

    Seven candidates are answers of the data to the last turn; the eighth is the second half of the longest one.
    """
    order = list(raw)
    random.Random(_SEED).shuffle(order)
    groups: dict[Any, list[Row]] = {}
    for row in order:
        groups.setdefault(row["prompt_id"], []).append(row)
    found: list[Row] = []
    for at, rows in enumerate(groups.values()):
        if len(found) == count:
            break
        answers = [rows[0]["response_a"], *(row["response_b"] for row in rows)]
        longest = max(answers, key=len)
        answers.append(longest[len(longest) // 2 :])
        cut = list(dict.fromkeys(_head(answer, RESPONSE_TOKENS - 1, tokenizer) for answer in answers))
        others = [order[(at * TURNS + step) % len(order)] for step in range(1, TURNS)]
        prompt = _dialogue([*others, rows[0]], tokenizer)
        if prompt is None or len(cut) < CANDIDATES or not all(cut):
            continue
        lengths = [PROMPT_TOKENS + _size(answer, tokenizer) + 1 for answer in cut[:CANDIDATES]]
        found.append({"prompt": prompt, "candidates": cut[:CANDIDATES], "tokens": sum(lengths)})
    return _enough(found, count)


def evenly(items: Sequence[Row], count: int) -> list[Row]:
    """``count`` items at even distances in the order of their ``tokens``."""
    _enough(items, count)
    ordered = sorted(items, key=lambda item: item["tokens"])
    return [ordered[(2 * place + 1) * len(ordered) // (2 * count)] for place in range(count)]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as lines of JSON, without what only this module needs."""
    kept = [{key: value for key, value in row.items() if key != "tokens"} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")


def _pair(row: Row) -> Row:
    better, worse = ("response_b", "response_a") if row["p_b"] > 0.5 else ("response_a", "response_b")
    return _row([{"role": "user", "content": row["prompt"]}], row[better], row[worse])


def _row(prompt: list[Message], chosen: str, rejected: str) -> Row:
    answers = {"chosen": chosen, "rejected": rejected}
    return {"prompt": prompt} | {name: [{"role": "assistant", "content": text}] for name, text in answers.items()}


def _fitting(rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> list[Row]:
    """Rows of which neither side drops or cuts anything, with their ``tokens``."""
    prompts: Any = tokenizer.apply_chat_template(
        [row["prompt"] for row in rows], add_generation_prompt=True, return_dict=True
    )
    answers = {name: [row[name][0]["content"] for row in rows] for name in ("chosen", "rejected")}
    sizes = {name: _sizes(found, tokenizer) for name, found in answers.items()}
    kept = []
    for at, row in enumerate(rows):
        chosen, rejected = answers["chosen"][at], answers["rejected"][at]
        lengths = [len(prompts["input_ids"][at]) + sizes[name][at] + 1 for name in ("chosen", "rejected")]
        if chosen.strip() and rejected.strip() and chosen != rejected and max(lengths) <= WINDOW:
            kept.append(row | {"tokens": sum(lengths)})
    return kept


def _dialogue(rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> list[Message] | None:
    """The messages of a prompt of exactly ``PROMPT_TOKENS``; the answers before the last question fill it up."""
    questions = [_head(row["prompt"], PROMPT_TOKENS // (2 * TURNS), tokenizer) for row in rows]
    empty = [message for text in questions for message in ({"role": "user", "content": text}, _ANSWER)][:-1]
    left = PROMPT_TOKENS - _prompt_size(empty, tokenizer)
    messages = []
    for turn, (row, question) in enumerate(zip(rows, questions, strict=True)):
        messages.append({"role": "user", "content": question})
        if turn < TURNS - 1:
            share = left // (TURNS - 1 - turn)
            answer = _cut(row["response_a"], share, tokenizer)
            if answer is None:
                return None
            messages.append({"role": "assistant", "content": answer})
            left -= share
    return messages if _prompt_size(messages, tokenizer) == PROMPT_TOKENS else None


def _cut(text: str, count: int, tokenizer: PreTrainedTokenizerFast) -> str | None:
    """The first ``count`` tokens of a text as text, if that is tokenized so again."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"][:count]  # pyright: ignore
    cut = tokenizer.decode(ids)
    return cut if len(ids) == count and tokenizer(cut, add_special_tokens=False)["input_ids"] == ids else None  # pyright: ignore


def _head(text: str, most: int, tokenizer: PreTrainedTokenizerFast) -> str:
    """The text, or about its first ``most`` tokens."""
    while _size(text, tokenizer) > most:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][:most]  # pyright: ignore
        shorter = tokenizer.decode(ids).rstrip("\ufffd")
        text = shorter if len(shorter) < len(text) else text[:-1]
    return text


def _size(text: str, tokenizer: PreTrainedTokenizerFast) -> int:
    return _sizes([text], tokenizer)[0]


def _sizes(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]  # pyright: ignore


def _prompt_size(messages: list[Message], tokenizer: PreTrainedTokenizerFast) -> int:
    rendered: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    return len(rendered["input_ids"])


def _enough(items: Sequence[Row], count: int) -> Any:
    if len(items) < count:
        raise SystemExit(f"--size: {count} are wanted, the data have {len(items)} that fit")
    return items
