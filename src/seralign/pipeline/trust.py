"""Whether a round uses margins: only if the last policy ranks held-out pairs better than by chance."""

from __future__ import annotations

from seralign.intervals import Interval
from seralign.pipeline.lineage import Round
from seralign.pipeline.stage import Context
from seralign.runs.figures import EvaluateFigures
from seralign.runs.layout import evaluation


def margins_trusted(context: Context, this: Round) -> bool:
    """Whether a round selects pairs by margins and generates pairs (``scoring.min_accuracy``)."""
    least = context.config.scoring.min_accuracy
    return least is None or _is_above(_accuracy(context, this), least)


def trust_inputs(context: Context, this: Round) -> dict[str, str]:
    """What a stage that uses margins depends on, if ``scoring.min_accuracy`` is set."""
    if context.config.scoring.min_accuracy is None:
        return {}
    return {"margins trusted": str(margins_trusted(context, this))}


def distrust(context: Context, this: Round) -> str:
    """Why a round does not use margins, for the terminal."""
    accuracy, least = _accuracy(context, this), context.config.scoring.min_accuracy
    shown = "unknown" if accuracy is None else f"{accuracy.mean:.3f}"
    if accuracy is not None and accuracy.low is not None:
        shown += f" (95% interval from {accuracy.low:.3f})"
    return (
        f"held-out accuracy is {shown}, not surely above scoring.min_accuracy, {least:g}: margins are not used, all "
        "pairs are kept and none are generated"
    )


def _accuracy(context: Context, this: Round) -> Interval | None:
    """That of the policy whose margins the round would use."""
    last = this.reward_policies[0].policy
    return context.run.figures(evaluation(last), EvaluateFigures).heldout_accuracy


def _is_above(accuracy: Interval | None, least: float) -> bool:
    return accuracy is not None and accuracy.low is not None and accuracy.low > least
