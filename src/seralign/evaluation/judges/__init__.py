"""Judges by name. To add one, write a file here and a line in ``JUDGES``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seralign.errors import ConfigError
from seralign.evaluation.judges.base import Comparison, Judge, Verdict
from seralign.evaluation.judges.checked import CheckedJudge
from seralign.evaluation.judges.function import FunctionJudge
from seralign.evaluation.judges.panel import PanelJudge
from seralign.evaluation.judges.scorer import ScorerJudge
from seralign.evaluation.judges.server import ServerJudge
from seralign.evaluation.scores import StoredScorer
from seralign.plugins import load_plugin, plugin_errors
from seralign.runs.results import Results

__all__ = ["JUDGES", "SCORER", "Comparison", "Judge", "Verdict", "make_judge"]

Make = Callable[[dict[str, Any], str, StoredScorer | None, Results | None], Judge]


def _reward_model(options: dict[str, Any], key: str, scorer: StoredScorer | None, results: Results | None) -> Judge:
    from seralign.evaluation.judges.models import RewardModelJudge  # loads torch

    return RewardModelJudge(options, key, scorer, results)


def _implicit(options: dict[str, Any], key: str, scorer: StoredScorer | None, results: Results | None) -> Judge:
    from seralign.evaluation.judges.implicit import ImplicitJudge  # loads torch

    return ImplicitJudge(options, key, scorer, results)


# The judge of a run that has a scorer and names no judge.
SCORER = "scorer"
JUDGES: dict[str, Make] = {
    SCORER: ScorerJudge,
    "server": ServerJudge,
    "reward_model": _reward_model,
    "implicit": _implicit,
    "function": FunctionJudge,
    "panel": PanelJudge,
}
_KEY = "evaluation.judge"


def make_judge(
    name: str, options: dict[str, Any], scorer: StoredScorer | None, key: str = _KEY, results: Results | None = None
) -> Judge:
    """Make a judge. Nothing is asked, and no server is contacted.

    Args:
        name: One of ``JUDGES``, or ``module:class``.
        options: Settings of the judge.
        scorer: The scorer of the run.
        key: The configuration key that names the judge, for messages.
        results: Where a judge of ``JUDGES`` stores what a verdict is made of, such as the answer in each order.
            Without it, a verdict that was not complete when the process ended is asked for anew.

    Raises:
        ConfigError: there is no such judge, or it does not support an option; names the key.
    """
    if name in JUDGES:
        return JUDGES[name](options, key, scorer, results)
    if ":" not in name:
        raise ConfigError(f"{key} must be one of {', '.join(JUDGES)}, or module:class of your own, got {name!r}")
    judge = load_plugin(name, key, "class")
    with plugin_errors(key, name):
        return CheckedJudge(judge(options, key, scorer), key, name)
