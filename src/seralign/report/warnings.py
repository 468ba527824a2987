"""When the figures of a run should worry its user: its warnings, of the whole run and of a round. Pure.

The rules are in ``warnings_answers`` and ``warnings_pairs``, a function each, with its limit and its advice. A new
warning is one function there: it yields what it finds, and ``warning`` gives its name and advice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from seralign.report import warnings_answers, warnings_pairs
from seralign.report.record import RunFigures, RunWarning
from seralign.report.rules import Rule, Watched
from seralign.runs.figures import Metrics

# In the order in which they are shown.
RULES: tuple[Rule, ...] = (*warnings_answers.RULES, *warnings_pairs.RULES)


def run_warnings(figures: RunFigures, training: Mapping[str, Sequence[Metrics]]) -> tuple[RunWarning, ...]:
    """What should worry the user of a run: of each kind the latest warning, with the other rounds that had it.

    Args:
        figures: Of the run.
        training: Metrics of its trainings, by name.
    """
    warnings = []
    for rule in RULES:
        found = list(rule.find(Watched(figures, training)))
        if found:
            *others, last = found
            advice = rule.supervised if figures.supervised else last.advice or rule.advice
            text = last.text + (f" Also in {', '.join(other.where for other in others)}." if others else "")
            warnings.append(RunWarning(rule.kind, last.where, last.value, last.limit, text, advice))
    return tuple(warnings)


def round_warnings(
    figures: RunFigures, training: Mapping[str, Sequence[Metrics]], index: int, kinds: Collection[str]
) -> dict[str, str]:
    """The warnings of some kinds about a round: kind to text. They depend on no later round.

    Args:
        figures: Of the run.
        training: Metrics of its trainings, by name.
        index: The round.
        kinds: Kinds of warnings.
    """
    watched = Watched(figures, training)
    found = ((rule.kind, one) for rule in RULES if rule.kind in kinds for one in rule.find(watched))
    return {kind: one.text for kind, one in found if one.where == f"round {index}"}
