"""A scoring on both sides: same responses, weights and precision; times and log-probabilities compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from benchmarks import inputs
from benchmarks.common import (
    BFLOAT16,
    Check,
    Options,
    Repetition,
    alternate,
    comparison,
    largest,
    largest_difference,
    require_same_tokens,
)
from benchmarks.jobs import Job, Scored
from benchmarks.models import prepare_model, save_model
from benchmarks.workers import Actions, Worker

BATCHES = (1, 2, 4, 8)
# A float32 sum of hundreds of float32 log-probabilities, each of which went through some dozens of float32 roundings.
FLOAT32_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Sides:
    """What is compared: the functions that make the sides, and what one counts.

    ``unit``: of the rates; ``each``: how many of it a row has; ``columns``: lists of log-probabilities, one after the
    other: chosen and rejected, or policy and reference; ``reference``: whether a second model is scored.
    """

    peer: Callable[[Any], Actions]
    ours: Callable[[Any], Actions]
    name: str
    unit: str
    each: int
    columns: int = 2
    reference: bool = False


def measure_scoring(
    options: Options,
    scratch: Path,
    make_rows: Callable[[Sequence[inputs.Row], PreTrainedTokenizerFast, int], list[inputs.Row]],
    sides: Sides,
) -> dict[str, Any]:
    """Log-probabilities by the peer at its best batch size and by seralign, in alternation.

    A repetition scores all rows once, with models that are loaded already and rows that are tokenized already. After
    the last one both score a part of the rows in float32, where they must agree to float32's rounding.
    """
    raw = inputs.read_pairs(options.pairs)
    tokenizer, parameters = prepare_model(options.model, scratch / "model", inputs.texts(raw), options.shape)
    if sides.reference:
        save_model(scratch / "reference", tokenizer, seed=1, shape=options.shape)
    rows = make_rows(raw, tokenizer, options.size)
    inputs.write_rows(scratch / "rows.jsonl", rows)
    # Order is free in scoring: rows of similar length share the peer's batches.
    order = sorted(range(len(rows)), key=lambda row: rows[row]["tokens"], reverse=True)
    job = Job(scratch, options.precision, tuple(order))
    few = min(len(rows), max(16 // sides.each, len(rows) // 6))
    with Worker(sides.ours, Job(scratch, options.precision), options.threads) as mine:
        with Worker(sides.peer, job, options.threads) as tuner:  # not the one that is measured: its peak counts
            require_same_tokens(_by_row(tuner.ask("tokens"), sides, order), mine.ask("tokens"))
            tuner.ask("run", 1, few)
            trials = [{"batch": batch, "seconds": tuner.ask("run", batch, few).seconds} for batch in BATCHES]
        batch = min(trials, key=lambda trial: trial["seconds"])["batch"]
        theirs: list[list[float]] = []
        own: list[list[float]] = []
        with Worker(sides.peer, job, options.threads) as peer:

            def their_turn(count: int = len(rows)) -> Repetition:
                return _turn(peer.ask("run", batch, count), count * sides.each, theirs)

            def our_turn(count: int = len(rows)) -> Repetition:
                return _turn(mine.ask("run", count), count * sides.each, own)

            for warm_up in (their_turn, our_turn):
                warm_up(few)
            turns = alternate(their_turn, our_turn, options.repetitions)
            peaks = (peer.peak_mb, mine.peak_mb)
            exact: list[list[float]] = [
                peer.ask("run", batch, few, "float32").logps,
                mine.ask("run", few, "float32").logps,
            ]
        lengths = mine.ask("lengths")
    checks = score_checks(theirs[1:], own[1:], exact, lengths, sides.columns, options.precision)
    return comparison(*turns, peaks, checks) | {
        "unit": f"{sides.unit} a second",
        "peer_settings": {"name": sides.name, "batch": batch},
        "peer_trials": trials,
        "sizes": {
            "parameters": parameters,
            "rows": len(rows),
            sides.unit: len(rows) * sides.each,
            "tokens": sum(row["tokens"] for row in rows),
            "response_tokens": sum(lengths),
            "rows_in_trials_and_float32": few,
        },
    }


def score_checks(
    peer: Sequence[Sequence[float]],
    ours: Sequence[Sequence[float]],
    exact: Sequence[Sequence[float]],
    lengths: Sequence[int],
    columns: int,
    precision: str,
) -> list[Check]:
    """Log-probabilities of all repetitions agree within bfloat16's rounding, and those of a part and their margins
    within float32's.

    Rounding to bfloat16 moves a response of n tokens by about sqrt(n) units of 2^-8. How many such units it can be is
    measured in the run, as the peer's largest distance between bfloat16 and float32 on the part: ours, which rounds
    elsewhere, may be twice as far from the peer's. In float32 a log-probability may be off by ``FLOAT32_TOLERANCE`` of
    its size, and the difference of two by the sum.

    Args:
        peer: For each repetition, log-probabilities by column and row.
        ours: The same.
        exact: The peer's and ours in float32, of the first rows of each column.
        lengths: Tokens of each response.
        columns: How many columns there are.
        precision: Of the repetitions; in float32 they agree as the part does.
    """
    units = [math.sqrt(lengths[at % len(lengths)]) * BFLOAT16 for at in range(len(peer[0]))]
    apart = [largest_difference(theirs, own, units) for theirs, own in zip(peer, ours, strict=True)]
    few = len(exact[0]) // columns
    part, part_units = (
        [value for column in _columns(numbers, columns) for value in column[:few]] for numbers in (peer[0], units)
    )
    rounding = largest_difference(part, exact[0], part_units)
    found = _columns(exact[0], columns), _columns(exact[1], columns)
    sizes = [max(1.0, abs(value)) for value in exact[0]]
    margins = [[first - last for first, last in zip(side[0], side[-1], strict=True)] for side in found]
    scales = [abs(first) + abs(last) for first, last in zip(found[0][0], found[0][-1], strict=True)]
    rounded = [
        Check("bfloat16 log-probabilities, in units of 2^-8 sqrt(tokens)", largest(apart), 2 * rounding),
    ]
    whole = [max(1.0, abs(value)) for value in peer[0]]
    same = [largest_difference(theirs, own, whole) for theirs, own in zip(peer, ours, strict=True)]
    plain = [Check("log-probabilities of all repetitions, relative", largest(same), FLOAT32_TOLERANCE)]
    return (rounded if precision == "bfloat16" else plain) + [
        Check("float32 log-probabilities, relative", largest_difference(*exact, sizes), FLOAT32_TOLERANCE),
        Check("float32 margins, relative to both parts", largest_difference(*margins, scales), FLOAT32_TOLERANCE),
    ]


def _columns(values: Sequence[float], columns: int) -> list[Sequence[float]]:
    rows = len(values) // columns
    return [values[column * rows : (column + 1) * rows] for column in range(columns)]


def _by_row(tokens: list[str], sides: Sides, order: list[int]) -> list[str]:
    """Digests in the order of the rows' file; TRL gets its rows in another."""
    if sides.each > 1:
        return tokens
    found = dict(zip(order, tokens, strict=True))
    return [found[row] for row in range(len(order))]


def _turn(result: Scored, amount: int, logps: list[list[float]]) -> Repetition:
    logps.append(result.logps)
    return Repetition(amount, result.seconds)
