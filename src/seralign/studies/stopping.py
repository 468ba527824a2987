"""Replays stopping rules on runs whose rounds were all measured, and finds the KL at which rounds do harm. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seralign.config import StopConfig
from seralign.pipeline.stopping import RoundGain, decide
from seralign.studies.figures import BudgetFigures, RuleFigures, StoppingFigures

# Values of min_gain: changes of accuracy on held-out pairs, against the best round so far, that count as a gain.
TOLERANCES = (0.0, -0.02, -0.05, -0.1)
# Edges in nats an answer.
BUDGETS = (2.0, 4.0, 6.0, 8.0)
# A round does harm if its gold is this far below that of the best round before it.
HARM = 0.02


@dataclass(frozen=True)
class Seen:
    """A round: ``accuracy`` on pairs by their labels, ``kl`` in nats, ``gold`` by temperature."""

    accuracy: float
    kl: float
    gold: dict[str, float]


def stopping(runs: Sequence[Sequence[Seen]]) -> StoppingFigures:
    """Rules and budgets, over runs that each have all their rounds.

    The rules are ``never``, and ``margin_accuracy`` with patience 1 and every tolerance. Harm and gain of the budgets
    are at the first temperature.
    """
    rules = {"never": StopConfig(metric="never")}
    rules |= {f"margin_accuracy, min_gain {each:g}": StopConfig(min_gain=each) for each in TOLERANCES}
    return StoppingFigures(len(runs), {name: _replayed(runs, rule) for name, rule in rules.items()}, _budgets(runs))


def _replayed(runs: Sequence[Sequence[Seen]], rule: StopConfig) -> RuleFigures:
    ends = [_result(run, rule) for run in runs]
    temperatures = list(runs[0][0].gold) if runs else []
    gold = {at: [run[end].gold[at] for run, end in zip(runs, ends, strict=True)] for at in temperatures}
    best = {at: [max(seen.gold[at] for seen in run) for run in runs] for at in temperatures}
    return RuleFigures(
        round=float(np.mean(ends)) + 1.0 if runs else None,
        gold={at: float(np.mean(gold[at])) for at in temperatures},
        lost={at: float(np.mean(best[at]) - np.mean(gold[at])) for at in temperatures},
    )


def _result(run: Sequence[Seen], rule: StopConfig) -> int:
    """The place of the round whose policy the rule would have given."""
    history = [RoundGain(place + 1, seen.accuracy, {}) for place, seen in enumerate(run)]
    for end in range(1, len(history) + 1):
        decision = decide(history[:end], rule, len(run))
        if decision.stop:
            return decision.best_round - 1
    raise AssertionError("the last round ends a run")


def _budgets(runs: Sequence[Sequence[Seen]]) -> tuple[BudgetFigures, ...]:
    found: list[list[tuple[float, bool]]] = [[] for _ in range(len(BUDGETS) + 1)]
    for run in runs:
        golds = [next(iter(seen.gold.values())) for seen in run]
        for place in range(1, len(run)):
            harmed = golds[place] < max(golds[:place]) - HARM
            at = int(np.searchsorted(BUDGETS, run[place].kl, side="right"))
            found[at].append((golds[place] - golds[place - 1], harmed))
    edges = (0.0, *BUDGETS, None)
    return tuple(
        BudgetFigures(
            low=float(low or 0.0),
            high=high,
            rounds=len(rows),
            harmed=float(np.mean([harmed for _, harmed in rows])) if rows else None,
            gain=float(np.mean([gain for gain, _ in rows])) if rows else None,
        )
        for low, high, rows in zip(edges[:-1], edges[1:], found, strict=True)
    )
