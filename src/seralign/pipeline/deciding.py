"""The stage that decides after a round whether to stop, and which round's policy is the result so far."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seralign.harm import harm
from seralign.pipeline.lineage import INITIAL, trained_in
from seralign.pipeline.stage import Context
from seralign.pipeline.stopping import Decision, RoundGain, decide
from seralign.records import content_id
from seralign.report.figures import run_figures, training_metrics
from seralign.report.warnings import round_warnings
from seralign.runs.figures import DecideFigures, EvaluateFigures
from seralign.runs.layout import DECIDE, evaluation, round_stage

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast


@dataclass(frozen=True)
class Decide:
    """The stage that applies the stopping rule. If it says stop, the run has no more rounds."""

    index: int

    @property
    def name(self) -> str:
        """``round-1/decide``, ..."""
        return round_stage(self.index, DECIDE)

    def inputs(self, context: Context) -> dict[str, str]:
        """The round's policy, all evaluations and warnings so far, and the rule."""
        gains = content_id([asdict(gain) for gain in self._history(context)])
        inputs = {"policy": context.policy(trained_in(self.index)).digest, "evaluations": gains}
        return inputs | context.loop.settings("stop", "rounds")

    def work(self, context: Context, folder: Path) -> DecideFigures:
        """Apply the rule."""
        config, measured = context.config, _measured(context, self.index)
        decision = decide(self._history(context), config.stop, config.rounds)
        harmed = harm(measured.heldout_accuracy, measured.win_rates.get(context.policy(INITIAL).name))
        return DecideFigures(**asdict(decision), harm=None if harmed is None else harmed.text)

    def cost(self, forecast: Forecast) -> None:
        """No model is used."""

    def _history(self, context: Context) -> list[RoundGain]:
        return [_gain(context, index) for index in range(1, self.index + 1)]


def last_decision(context: Context) -> Decision:
    """The decision after the last round, which ends the rounds if they have not ended before."""
    stages = [round_stage(index, DECIDE) for index in range(1, context.config.rounds + 1)]
    last = [stage for stage in stages if context.run.exists(stage)][-1]
    figures = context.run.figures(last, DecideFigures)
    return Decision(figures.stop, figures.reason, figures.best_round)


def _measured(context: Context, index: int) -> EvaluateFigures:
    return context.run.figures(evaluation(trained_in(index)), EvaluateFigures)


def _gain(context: Context, index: int) -> RoundGain:
    """What the stopping rule reads: held-out accuracy, win rates against the rounds before, and warnings."""
    figures = _measured(context, index)
    accuracy = figures.heldout_accuracy
    names = {context.policy(trained_in(past)).name: past for past in range(index)}
    rates = {names[name]: rate for name, rate in figures.win_rates.items()}
    return RoundGain(index, None if accuracy is None else accuracy.mean, rates, _warnings(context, index))


def _warnings(context: Context, index: int) -> dict[str, str]:
    """The warnings of a round that stop the run, by kind."""
    kinds, run = context.config.stop.warnings, context.run
    return round_warnings(run_figures(run), training_metrics(run), index, kinds) if kinds else {}
