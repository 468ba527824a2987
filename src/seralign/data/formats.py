"""Row formats. Each row becomes one prompt with its responses; nothing is tokenized here.

A row of ``data.pairs`` is a pair, a ranking, responses with scores, or one response with a label or a score
(``read_example``; ``seralign.data.kinds`` tells them apart). Rows that are the messages of a tree were made rankings
before (``seralign.data.trees``).

Pairs are recognised by their columns, in this order:

- already tokenized: ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` (or ``prompt_input_ids`` and so on);
- explicit prompt: ``prompt`` (or ``messages``, ``conversations``), ``chosen``, ``rejected``, each plain text or
  messages;
- two answers: ``prompt``, ``response_a``, ``response_b`` and ``p_b``, the probability that b is better;
- one conversation: ``messages`` (or ``conversations``) that end with the chosen answer, and ``rejected`` (or
  ms-swift's ``rejected_response``, ``rejected_messages``);
- implicit prompt: only ``chosen`` and ``rejected``, which begin with the same turns;
- OpenAI's preference format: ``input`` with ``messages`` and ``tools``, ``preferred_output``,
  ``non_preferred_output``.

``p`` (probability that ``chosen`` is better), ``weight`` and ``pair_id`` are optional; null counts as absent.
"""

from __future__ import annotations

from dataclasses import replace

from seralign.data import columns
from seralign.data.borders import check_prompt
from seralign.data.columns import LABELLED, Row
from seralign.data.content import is_chat
from seralign.data.flat import flat
from seralign.data.inputs import with_before
from seralign.data.kinds import form_of, refuse_numbered, refuse_other_formats, refuse_unranked
from seralign.data.label import first_is_better, read_pair_id, read_weight
from seralign.data.making import make_example
from seralign.data.parts import (
    HH_LEFT,
    around,
    as_chat,
    content_of,
    explicit_prompt,
    holds_turns,
    prompt_and_responses,
    unread_columns,
)
from seralign.data.place import Place, Reading
from seralign.data.ranked import read_ranked
from seralign.data.raw import Drop, RawExample, RawPrompt
from seralign.data.single import read_single
from seralign.records import Demonstration, Pair

SWAPPED = "swapped"
TIE = "tie"

_LABELS = ("p", "p_b")
PLAIN_READING = Reading()


def read_example(row: Row, where: str, reading: Reading = PLAIN_READING) -> RawExample | Drop:
    """Read one row of ``data.pairs`` in the form of preference that its columns have.

    Raises:
        DataError: As ``read_pair``; or a label, score or rank cannot be read.
    """
    place = Place(where, reading)
    match form_of(flat(row, place), place):
        case "ranked":
            return read_ranked(flat(row, place), place)
        case "label" | "score" | "rank" as form:
            return read_single(flat(row, place), form, place)
        case _:
            return read_pair(row, where, reading)


def read_pair(row: Row, where: str, reading: Reading = PLAIN_READING) -> RawExample | Drop:
    """Read one row as a pair with the better response first and p in (0.5, 1].

    A row with p < 0.5 is swapped and gets 1 - p. A row with p = 0.5 is a tie and is dropped. So are rows with an
    implicit prompt whose responses share no prompt, or whose answers have several turns.

    Raises:
        DataError: The columns are of no known format, or a value is null, of the wrong type or out of range.
    """
    place = Place(where, reading)
    row = flat(row, place)
    refuse_numbered(row, place)
    refuse_unranked(row, place)
    names = columns.pair_columns(row, place)
    label = ("p_b" if names == LABELLED else "p", "weight", "pair_id")
    p = first_is_better(row, names == LABELLED, place)
    weight = read_weight(row, place)
    pair_id = read_pair_id(row, place)
    parts = prompt_and_responses(row, names, place)
    unread = unread_columns(row, names, label, place)
    if isinstance(parts, str):
        return Drop(parts, unread)
    if p == 0.5:
        return Drop(TIE, unread)
    prompt, (first, second), inputs = parts
    chosen, rejected = (first, second) if p > 0.5 else (second, first)
    parts, preference = (prompt, (chosen, rejected), inputs), Pair(max(p, 1.0 - p))
    return make_example(parts, preference, pair_id, weight, unread, place, notes=[SWAPPED] if p < 0.5 else [])


def read_demonstration(row: Row, where: str, reading: Reading = PLAIN_READING) -> RawExample | Drop:
    """Read one row as a demonstration.

    It is a pair's better response; ``prompt`` with ``response``, ``completion`` or ``chosen`` (or their ids); or
    ``messages`` or ``conversations`` that end with the response.

    Raises:
        DataError: As ``read_pair``.
    """
    place = Place(where, reading)
    row = flat(row, place)
    if columns.is_pair(row, place):
        pair = read_pair(row, where, reading)
        if isinstance(pair, Drop):
            return pair
        notes = tuple(note for note in pair.notes if note != SWAPPED)
        return replace(pair, responses=pair.responses[:1], preference=Demonstration(), notes=notes)
    refuse_other_formats(row, place)
    names = columns.demonstration_columns(row, place)
    pair_id = read_pair_id(row, place)
    weight = read_weight(row, place)
    parts = prompt_and_responses(row, names, place)
    unread = unread_columns(row, names, ("weight", "pair_id"), place)
    if isinstance(parts, str):
        return Drop(parts, unread)
    return make_example(parts, Demonstration(), pair_id, weight, unread, place)


def read_prompt(row: Row, where: str, reading: Reading = PLAIN_READING) -> RawPrompt | Drop:
    """Read one row as a prompt: a pair's prompt, ``prompt``, ``prompt_ids``, or ``messages`` up to the last answer.

    Raises:
        DataError: As ``read_pair``.
    """
    place = Place(where, reading)
    row = flat(row, place)
    if columns.is_pair(row, place):
        # Only the prompt is used, so a tie is as good as any other row.
        pair = read_pair({**row, "p": 1.0, "p_b": 1.0}, where, reading)
        if isinstance(pair, Drop):
            return pair
        return RawPrompt(
            pair.prompt, where, pair.inputs, tuple(n for n in pair.unread if n in row or n not in _LABELS), pair.notes
        )
    name = columns.prompt_column(row, place)
    surrounds = around(row, name, place)
    content = content_of(row, name, place)
    if holds_turns(row[name], content, place):
        return Drop(HH_LEFT, unread_columns(row, [name], (), place))
    prompt = explicit_prompt(content, name, place)
    if name in columns.CONVERSATIONS:
        while is_chat(prompt) and prompt[-1]["role"] == "assistant":
            prompt = prompt[:-1]
    check_prompt(prompt, place)
    prompt = with_before(as_chat(prompt, place), surrounds, place)
    return RawPrompt(
        prompt, where, surrounds.inputs, unread_columns(row, [name], (), place), tuple(dict.fromkeys(place.notes))
    )
