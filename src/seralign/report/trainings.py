"""What the trainings of a run did to their losses, from ``metrics.jsonl``. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from seralign.report.format import ALONE
from seralign.tables import ABSENT, Table, number

# Losses beyond it are of a training that diverged; their exponentials say nothing.
_LARGEST = 100.0


def is_supervised(training: str, objective: str) -> bool:
    """Whether a training's loss is that of SFT: nats a token, whose exponential is a perplexity."""
    return training == "sft" or objective == "sft"


def training_name(training: str, objective: str) -> str:
    """What a training is called: ``SFT``, ``Round 1``, ..., ``dpo alone, as many steps``."""
    if training == "baseline":
        return f"{objective} {ALONE}"
    return training.upper() if training == "sft" else training.capitalize()


def training_losses(training: Mapping[str, Sequence[Mapping[str, Any]]], objective: str) -> list[dict[str, Any]]:
    """The losses of each training: ``name``, ``called``, ``steps``, ``loss`` (``first``, ``last``; null without a
    logged step), ``heldout_loss`` (``first``, ``lowest``, ``last``; null without held-out data) and ``perplexity``
    (of the last held-out loss; null where the loss is not that of SFT).

    Args:
        training: Rows of ``metrics.jsonl`` by training.
        objective: Name of the run's objective.
    """
    found = []
    for name, lines in training.items():
        inside = [line["loss"] for line in lines if line.get("loss") is not None]
        outside = [line["eval_loss"] for line in lines if line.get("eval_loss") is not None]
        known = outside and is_supervised(name, objective) and outside[-1] < _LARGEST
        found.append(
            {
                "name": name,
                "called": training_name(name, objective),
                "steps": max((line.get("step", 0) for line in lines), default=0),
                "loss": {"first": inside[0], "last": inside[-1]} if inside else None,
                "heldout_loss": (
                    {"first": outside[0], "lowest": min(outside), "last": outside[-1]} if outside else None
                ),
                "perplexity": math.exp(outside[-1]) if known else None,
            }
        )
    return found


def losses_table(rows: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    """Losses as ``training_losses`` gives them, each with what its row is called."""
    columns = ("training", "steps", "loss: first", "last", "held out: first", "lowest", "last", "perplexity")
    cells = []
    for name, one in rows:
        inside, outside = one["loss"] or {}, one["heldout_loss"] or {}
        losses = [inside.get("first"), inside.get("last"), *map(outside.get, ("first", "lowest", "last"))]
        last = ABSENT if one["perplexity"] is None else number(one["perplexity"], 2)
        cells.append((name, f"{one['steps']:,}", *(number(loss, 3) for loss in losses), last))
    return Table("trainings: losses at the logged steps and on held-out data", columns, tuple(cells))
