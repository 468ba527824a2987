"""The formats of rows, and what each becomes: one prompt with its responses. No tokenizer here.

Pairs are recognised by their columns, in this order:

- already tokenized: ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` (or ``prompt_input_ids`` and so on);
- explicit prompt: ``prompt``, ``chosen``, ``rejected``, each plain text or a list of ``{role, content}`` messages;
- two answers: ``prompt``, ``response_a``, ``response_b`` and ``p_b``, the probability that b is the better one;
- implicit prompt: ``chosen`` and ``rejected`` alone, which begin with the same text or the same messages.

``p`` (probability that ``chosen`` is better), ``weight`` and ``pair_id`` are optional; null counts as absent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seralign.data.borders import check_prompt, split
from seralign.data.content import Content, is_chat, read_ids, read_text
from seralign.errors import DataError
from seralign.records import content_id

Row = Mapping[str, Any]

TOKENIZED = (
    ("prompt_ids", "chosen_ids", "rejected_ids"),
    ("prompt_input_ids", "chosen_input_ids", "rejected_input_ids"),
)
LABELLED = ("prompt", "response_a", "response_b")
EXPLICIT = ("prompt", "chosen", "rejected")
IMPLICIT = ("chosen", "rejected")
RESPONSES = ("response", "completion", "chosen")
TOKENIZED_RESPONSES = ("response_ids", "completion_ids", "chosen_ids")
KNOWN_COLUMNS = frozenset(
    {*TOKENIZED[0], *TOKENIZED[1], *LABELLED, *EXPLICIT, *RESPONSES, *TOKENIZED_RESPONSES}
    | {"messages", "p", "p_b", "weight", "pair_id"}
)

TIE = "tie"


@dataclass(frozen=True, slots=True)
class Drop:
    """A row that is left out, and why; counted, never an error."""

    reason: str


@dataclass(frozen=True, slots=True)
class RawPair:
    """A pair before tokens, the better response in ``chosen``.

    ``p`` in (0.5, 1]; ``swapped``: the row had the two the other way round. ``named``: ``pair_id`` was given in the
    row, else it is the digest of prompt, chosen and rejected. ``where`` is the file and the row, for messages.
    """

    pair_id: str
    prompt: Content
    chosen: Content
    rejected: Content
    p: float
    weight: float
    swapped: bool
    named: bool
    where: str


@dataclass(frozen=True, slots=True)
class RawDemonstration:
    """A prompt with a response to imitate."""

    pair_id: str
    prompt: Content
    response: Content
    weight: float
    named: bool
    where: str


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A prompt alone."""

    prompt: Content
    where: str


def read_pair(row: Row, where: str) -> RawPair | Drop:
    """One row as a pair, turned so that the better response is ``chosen``.

    A row with p < 0.5 is swapped and gets 1 - p; one with p = 0.5 is a tie and dropped, as are rows with an implicit
    prompt whose responses share none, or whose answers run over several turns.

    Raises:
        DataError: The columns are of no known format, or a value is null, of the wrong type or out of range.
    """
    names = _pair_columns(row, where)
    contents = [_content(row, name, where) for name in names]
    # Pair columns come as (prompt, first, second) or, without a prompt, (first, second).
    prompt, first, second = contents if len(contents) == 3 else (None, *contents)
    p = _first_is_better(row, names, where)
    weight = _weight(row, where)
    pair_id = _pair_id(row, where)
    parts = split(prompt, first, second, where)
    if isinstance(parts, str):
        return Drop(parts)
    if p == 0.5:
        return Drop(TIE)
    prompt, first, second = parts
    chosen, rejected = (first, second) if p > 0.5 else (second, first)
    return RawPair(
        pair_id=pair_id or content_id([prompt, chosen, rejected]),
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        p=max(p, 1.0 - p),
        weight=weight,
        swapped=p < 0.5,
        named=pair_id is not None,
        where=where,
    )


def read_demonstration(row: Row, where: str) -> RawDemonstration | Drop:
    """One row as a demonstration: a pair's better response; ``prompt`` with ``response``, ``completion`` or
    ``chosen`` (or their ids); or ``messages``, whose last one is the response.

    Raises:
        DataError: As ``read_pair``.
    """
    if _is_pair(row):
        pair = read_pair(row, where)
        if isinstance(pair, Drop):
            return pair
        return RawDemonstration(pair.pair_id, pair.prompt, pair.chosen, pair.weight, pair.named, where)
    if "messages" in row:
        messages = _content(row, "messages", where)
        if not is_chat(messages) or len(messages) < 2 or messages[-1]["role"] != "assistant":
            raise DataError(f"{where}: messages must be a prompt and an assistant message that answers it")
        prompt, response = messages[:-1], messages[-1:]
    else:
        names = _demonstration_columns(row, where)
        prompt, response = (_content(row, name, where) for name in names)
    parts = split(prompt, response, response, where)
    if isinstance(parts, str):
        return Drop(parts)
    prompt, response, _ = parts
    pair_id = _pair_id(row, where)
    identity = pair_id or content_id([prompt, response])
    return RawDemonstration(identity, prompt, response, _weight(row, where), pair_id is not None, where)


def read_prompt(row: Row, where: str) -> RawPrompt | Drop:
    """One row as a prompt: a pair's prompt, ``prompt``, ``prompt_ids``, or ``messages`` up to the last answer.

    Raises:
        DataError: As ``read_pair``.
    """
    if _is_pair(row):
        # Neither label nor response matters here, so a tie is as good as any other row.
        pair = read_pair({**row, "p": 1.0, "p_b": 1.0}, where)
        return pair if isinstance(pair, Drop) else RawPrompt(pair.prompt, where)
    name = next((name for name in ("prompt_ids", "prompt_input_ids", "prompt", "messages") if name in row), None)
    if name is None:
        raise DataError(f"{where}: a prompt needs a column prompt, messages or prompt_ids; {_has(row)}")
    prompt = _content(row, name, where)
    if name == "messages":
        while is_chat(prompt) and prompt[-1]["role"] == "assistant":
            prompt = prompt[:-1]
    check_prompt(prompt, where)
    return RawPrompt(prompt, where)


def _has(row: Row) -> str:
    return f"the columns are {', '.join(row)} (name them by the columns option of the source)"


def _is_pair(row: Row) -> bool:
    return any(all(name in row for name in names) for names in (*TOKENIZED, IMPLICIT, LABELLED))


def _pair_columns(row: Row, where: str) -> tuple[str, ...]:
    for names in (*TOKENIZED, EXPLICIT, LABELLED, IMPLICIT):
        if all(name in row for name in names):
            return names
    raise DataError(
        f"{where}: a pair needs chosen and rejected (with or without prompt), or prompt, response_a, response_b "
        f"and p_b, or prompt_ids, chosen_ids and rejected_ids; {_has(row)}"
    )


def _demonstration_columns(row: Row, where: str) -> tuple[str, str]:
    for prompt, responses in (("prompt_ids", TOKENIZED_RESPONSES), ("prompt", RESPONSES)):
        response = next((name for name in responses if name in row), None)
        if prompt in row and response:
            return prompt, response
    raise DataError(
        f"{where}: a demonstration needs messages, or prompt with response, completion or chosen; {_has(row)}"
    )


def _content(row: Row, name: str, where: str) -> Content:
    return (read_ids if name.endswith("_ids") else read_text)(row[name], name, where)


def _number(row: Row, name: str, where: str, rule: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: {name} must be {rule}, got {type(value).__name__} {value!r}")
    return float(value)


def _probability(row: Row, name: str, where: str) -> float | None:
    rule = "a probability in [0, 1]"
    value = _number(row, name, where, rule)
    if value is not None and not 0.0 <= value <= 1.0:
        raise DataError(f"{where}: {name} must be {rule}, got {value!r}")
    return value


def _first_is_better(row: Row, names: tuple[str, ...], where: str) -> float:
    if names != LABELLED:
        p = _probability(row, "p", where)
        return 1.0 if p is None else p
    p_b = _probability(row, "p_b", where)
    if p_b is None:
        raise DataError(f"{where}: p_b is missing: the probability that response_b is better than response_a")
    return 1.0 - p_b


def _weight(row: Row, where: str) -> float:
    rule = "a finite number greater than 0"
    value = _number(row, "weight", where, rule)
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise DataError(f"{where}: weight must be {rule}, got {value!r}")
    return 1.0 if value is None else value


def _pair_id(row: Row, where: str) -> str | None:
    value = row.get("pair_id")
    if value is None or (isinstance(value, str) and value):
        return value
    if type(value) is int:
        return str(value)
    raise DataError(f"{where}: pair_id must be text or a whole number, got {value!r}")
