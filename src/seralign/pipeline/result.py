"""The last stage: the resulting model with its card."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from seralign import distributed
from seralign.errors import ModelError
from seralign.evaluation.judges.scorer import ScorerJudge
from seralign.evaluation.win_rates import win_rate
from seralign.intervals import Interval
from seralign.pipeline.card import KEPT, model_card
from seralign.pipeline.comparing import stored_verdicts, verdicts_by_score
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.deciding import last_decision
from seralign.pipeline.lineage import INITIAL, trained_in
from seralign.pipeline.stage import Context
from seralign.policy.identity import ADAPTER_SETTINGS, PolicySource, read_json, weights_digest
from seralign.policy.saving import cast_saved, kept_change, saved_dtype
from seralign.progress import say
from seralign.records import content_id
from seralign.runs.figures import EvaluateFigures, PoliciesFigures, ResultFigures
from seralign.runs.files import write_json
from seralign.runs.layout import EVALUATE, POLICIES, POLICY, RESULT
from seralign.tables import percent

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast

# Settings that the model card mentions.
_CARD = (
    "rounds", "objective", "reference.update", "reference.sync_steps", "reference.mixup", "crossfit",
    "scoring.ensemble_weight", "scoring.length_correction", "selection", "bootstrap",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """The stage that writes the best round's policy to ``result``: model or adapter, tokenizer, chat template, card."""

    name: str = RESULT

    def inputs(self, context: Context) -> dict[str, str]:
        """The policy, why it is the result, all evaluations, and the settings in the model card."""
        loop, decision = context.loop, last_decision(context)
        inputs = {stage: context.run.record(stage).digest for stage in _evaluations(context)}
        inputs |= {
            "policy": context.policy(trained_in(decision.best_round)).digest,
            "decision": content_id(asdict(decision)),
            "initial": context.policy(INITIAL).digest,
            "policy.model": context.run.record(POLICIES).inputs["policy.model"],
        }
        return inputs | loop.settings("policy.save_dtype", *_CARD) | loop.tokenizer_inputs

    def work(self, context: Context, folder: Path) -> ResultFigures | None:
        """Copy the policy, convert it to the requested data type, and write its card."""
        loop, decision = context.loop, last_decision(context)
        best, figures = context.policy(trained_in(decision.best_round)), None
        if distributed.is_main():
            rates = _win_rates(loop, _evaluations(context))
            saved = loop.run.path(str(best.stage), POLICY)
            shutil.copytree(saved, folder, ignore=shutil.ignore_patterns("README.md"), dirs_exist_ok=True)
            _name_base(loop, best, folder)
            cast = _in_its_dtype(loop, best, context.policy(INITIAL), folder)
            figures = ResultFigures(best.name, cast.digest, decision.reason, rates, cast.dtype, cast.kept, cast.before)
            (folder / "README.md").write_text(_result_card(loop, figures, folder), encoding="utf-8")
        return distributed.broadcast(figures)

    def cost(self, forecast: Forecast) -> None:
        """No model is used."""


def _evaluations(context: Context) -> list[str]:
    """The evaluations of the run, in the order in which they finished."""
    return [record.name for record in context.run.stages() if record.name.endswith(f"/{EVALUATE}")]


@dataclass(frozen=True)
class _Cast:
    """Data type and digest of the saved weights; if they were cast, also the digest before and the share of the
    training's change that is left."""

    dtype: str
    digest: str
    before: str | None = None
    kept: float | None = None


def _in_its_dtype(loop: Loop, best: Policy, initial: Policy, folder: Path) -> _Cast:
    """Cast the result to the requested data type."""
    config = loop.config.policy
    base = loop.run.figures(POLICIES, PoliciesFigures).base
    asked = base.dtype if config.save_dtype == "auto" else config.save_dtype
    is_adapter = best.source.adapter is not None
    own = saved_dtype(PolicySource(best.source.model, adapter=str(folder)) if is_adapter else PolicySource(str(folder)))
    if asked == own:
        return _Cast(own, best.digest)
    # An adapter starts at 0, where rounding is relative to the change itself and loses little of it.
    kept = None if is_adapter else kept_change(Path(initial.source.model), folder, asked)
    try:
        cast_saved(folder, asked)
    except ModelError as error:
        say(f"warning: the result stays in {own}: {error}")
        return _Cast(own, best.digest)
    how = "as the model came" if config.save_dtype == "auto" else "by policy.save_dtype"
    say(f"the result is saved in {asked}, {how}; trained in {own}")
    if kept is not None and kept < KEPT:
        say(
            f"warning: rounding to {asked} leaves {percent(kept, 0)} of what the rounds changed, so the result is not "
            "the policy that was evaluated; policy.save_dtype: float32 keeps all of it"
        )
    source = PolicySource(best.source.model, adapter=str(folder)) if is_adapter else PolicySource(str(folder))
    return _Cast(asked, weights_digest(source), best.digest, kept)


def _name_base(loop: Loop, best: Policy, folder: Path) -> None:
    """Name a base inside the run by its path relative to the result, so that the run can be moved."""
    settings, root = folder / ADAPTER_SETTINGS, loop.run.root.absolute()
    base = Path(best.source.model)
    if settings.is_file() and base.is_relative_to(root):
        place = os.path.relpath(base, root / RESULT)
        write_json(settings, read_json(settings) | {"base_model_name_or_path": place})


def _win_rates(loop: Loop, stages: list[str]) -> dict[str, dict[str, Interval]]:
    """Win rates with intervals between all evaluated policies, from stored verdicts. A judge may cost money, so it is
    not asked here. Each verdict also counts in the opposite direction. With a scorer as judge, the stored scores give
    all win rates."""
    if loop.judge is None:
        return {}
    by_score = isinstance(loop.judge, ScorerJudge)
    names = {stage: loop.run.figures(stage, EvaluateFigures).name for stage in stages}
    rates: dict[str, dict[str, Interval]] = {name: {} for name in names.values()}
    for earlier, later in combinations(names, 2):
        found = stored_verdicts(loop, later).get(names[earlier], [])
        if by_score and not found:
            found = verdicts_by_score(loop, later, earlier)
        for own, other, verdicts in ((later, earlier, found), (earlier, later, [each.turned() for each in found])):
            rate = win_rate(verdicts)
            if rate is not None:
                rates[names[own]][names[other]] = rate
    return {name: {rival: found[rival] for rival in rates if rival in found} for name, found in rates.items()}


def _result_card(loop: Loop, figures: ResultFigures, folder: Path) -> str:
    is_adapter = (folder / ADAPTER_SETTINGS).is_file()
    base = loop.run.figures(POLICIES, PoliciesFigures).base.hub
    return model_card(loop.run, loop.config, figures, is_adapter=is_adapter, base_model=base)
