"""A training on both sides: same pairs, steps, weights, optimizer and precision; times and loss curves compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
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
from benchmarks.jobs import BETA, LEARNING_RATE, MAX_GRAD_NORM, OPTIMIZER, STEP_PAIRS, Job, Trained
from benchmarks.models import prepare_model
from benchmarks.workers import Worker

BATCHES = (1, 2, 4, 8)
_TRIAL_STEPS = 2
# A batch size so much slower than a smaller one is the last that is tried: larger ones pad still more.
_HOPELESS = 1.5
MakeRows = Callable[[Sequence[inputs.Row], PreTrainedTokenizerFast, int], list[inputs.Row]]


def measure_training(options: Options, scratch: Path, make_rows: MakeRows) -> dict[str, Any]:
    """DPO by TRL and by seralign, in alternation.

    A repetition trains once over all pairs from the same weights; pairs a second are counted from the end of its
    first optimizer step to the end of its last, by the same hook on both sides, which leaves out start and saving.
    """
    if options.size % STEP_PAIRS or options.size < _TRIAL_STEPS * STEP_PAIRS:
        raise SystemExit(f"--size: a multiple of {STEP_PAIRS}, at least {_TRIAL_STEPS * STEP_PAIRS}")
    from benchmarks import ours, peers

    raw = inputs.read_pairs(options.pairs)
    tokenizer, parameters = prepare_model(options.model, scratch / "model", inputs.texts(raw), options.shape)
    rows = make_rows(raw, tokenizer, options.size)
    inputs.write_rows(scratch / "rows.jsonl", rows)
    steps = options.size // STEP_PAIRS
    own_job = Job(scratch, options.precision, tokens_per_pack=options.tokens_per_pack)
    with Worker(ours.training, own_job, options.threads) as first:  # scores the reference: not measured
        order = [
            row
            for step in first.ask("order")
            for row in sorted(step, key=lambda row: rows[row]["tokens"], reverse=True)
        ]
        tokens, responses = first.ask("tokens"), first.ask("lengths")
    job = replace(own_job, order=tuple(order))
    with Worker(peers.training, job, options.threads) as tuner:  # not the one that is measured either
        require_same_tokens(tuner.ask("tokens"), [tokens[row] for row in order])
        trials = _trials(tuner)
    best = min(trials, key=lambda trial: trial["whole_seconds"])
    peer_losses: list[list[float]] = []
    our_losses: list[list[float]] = []
    with (
        Worker(peers.training, job, options.threads) as peer,
        Worker(ours.training, own_job, options.threads) as mine,
    ):

        def their_turn(count: int = steps) -> Repetition:
            return _turn(peer.ask("run", count, best["batch"], best["checkpointing"]), peer_losses)

        def our_turn(count: int = steps) -> Repetition:
            return _turn(mine.ask("run", count), our_losses)

        for warm_up in (their_turn, our_turn):
            warm_up(_TRIAL_STEPS)
        turns = alternate(their_turn, our_turn, options.repetitions)
        peaks = (peer.peak_mb, mine.peak_mb)
    checks = loss_checks(peer_losses[1:], our_losses[1:], sum(responses) / options.size)
    return comparison(*turns, peaks, checks) | {
        "unit": "pairs a second",
        "peer_settings": {"name": "trl.DPOTrainer"} | {key: best[key] for key in ("batch", "checkpointing")},
        "peer_trials": trials,
        "losses": {"peer": peer_losses[-1], "ours": our_losses[-1]},
        "sizes": {
            "parameters": parameters,
            "pairs": options.size,
            "steps": steps,
            "tokens_per_pair": round(sum(row["tokens"] for row in rows) / options.size, 1),
            "response_tokens_per_pair": round(sum(responses) / options.size, 1),
        },
        "training": {
            "objective": "dpo",
            "beta": BETA,
            "learning_rate": LEARNING_RATE,
            "optimizer": OPTIMIZER,
            "max_grad_norm": MAX_GRAD_NORM,
            "pairs_per_step": STEP_PAIRS,
        },
    }


def loss_tolerance(response_tokens: float) -> float:
    """How far rounding may take the loss of a step, for pairs of so many response tokens.

    Rounding moves the log-probability of n tokens by about sqrt(n) units of 2^-8 (1.0 to 1.2 of them, root mean square
    against float32, on this model), and so the margin of a pair. The loss has the slope beta / 2 in it, and is a mean
    over the pairs of a step. Four such deviations are allowed.
    """
    return 4 * BETA / 2 * math.sqrt(response_tokens / STEP_PAIRS) * BFLOAT16


def loss_checks(
    peer: Sequence[Sequence[float]], ours: Sequence[Sequence[float]], response_tokens: float
) -> list[Check]:
    """The curves of all repetitions agree step by step, and they move by much more than they may differ."""
    tolerance = loss_tolerance(response_tokens)
    apart = [largest_difference(theirs, own) for theirs, own in zip(peer, ours, strict=True)]
    moved = max(abs(loss - math.log(2)) for loss in peer[0])
    return [
        Check("loss of each step, peer and ours", largest(apart), tolerance),
        Check("the tolerance, beside a quarter of the way from ln 2 that the loss went", tolerance, moved / 4),
    ]


def _trials(tuner: Worker) -> list[dict[str, Any]]:
    """Each batch size on a few steps, up to one that is far behind a smaller one; gradient checkpointing, TRL's
    default, at the best of them."""
    tuner.ask("run", 1, BATCHES[0], False)
    found: list[dict[str, Any]] = []
    for batch in BATCHES:
        found.append(_trial(tuner, batch, False))
        best = min(found, key=lambda trial: trial["whole_seconds"])
        if found[-1]["whole_seconds"] > _HOPELESS * best["whole_seconds"]:
            break
    return [*found, _trial(tuner, best["batch"], True)]


def _trial(tuner: Worker, batch: int, checkpointing: bool) -> dict[str, Any]:
    result: Trained = tuner.ask("run", _TRIAL_STEPS, batch, checkpointing)
    return {"batch": batch, "checkpointing": checkpointing} | asdict(result)


def _turn(result: Trained, losses: list[list[float]]) -> Repetition:
    losses.append(result.losses)
    return Repetition((len(result.losses) - 1) * STEP_PAIRS, result.seconds)
