"""The last stage: the model that the run was for, with a card that says how it came about."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from seralign import distributed
from seralign.config import RunConfig, SourceConfig, to_dict
from seralign.config.objective import described
from seralign.config.recipes import recipe_name
from seralign.errors import ModelError
from seralign.evaluation.judges.scorer import ScorerJudge
from seralign.evaluation.win_rates import turned, win_rate
from seralign.intervals import Interval
from seralign.pipeline.comparing import stored_verdicts, verdicts_by_score
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.stopping import Decision
from seralign.policy.identity import ADAPTER_SETTINGS, PolicySource, portable, read_json, weights_digest
from seralign.policy.saving import cast_saved, kept_change, saved_dtype
from seralign.progress import say
from seralign.records import content_id
from seralign.report.columns import ACCURACY
from seralign.report.facts import crossfit_lines, round_lines
from seralign.report.figures import run_figures
from seralign.report.text import policies_markdown, warnings_markdown
from seralign.runs import Run, StageRecord
from seralign.runs.figures import BaseFigures, DataFigures, EvaluateFigures, PoliciesFigures, ResultFigures
from seralign.runs.files import write_json
from seralign.runs.layout import BASE, DATA, POLICIES, POLICY, RESULT
from seralign.tables import code, percent

# Below this share of the change that is left after rounding, the result is worth a warning.
_KEPT = 0.9
# Settings that the model card speaks of.
_CARD = (
    "rounds", "objective", "reference.update", "crossfit", "scoring.ensemble_weight",
    "scoring.length_correction", "selection", "bootstrap",
)  # fmt: skip


def result_stage(loop: Loop, best: Policy, decision: Decision, initial: Policy) -> StageRecord:
    """Put the best round's policy into ``result``: model or adapter, tokenizer, chat template, model card.

    ``initial`` is the policy that the rounds started from.
    """
    stage = f"round-{decision.best_round}/train"
    records = {record.name: record for record in loop.run.stages()}
    inputs = {name: record.digest for name, record in records.items() if name.endswith("/evaluate")}
    inputs |= {"policy": best.digest, "decision": content_id(asdict(decision)), "initial": initial.digest}
    inputs["policy.model"] = loop.run.record(POLICIES).inputs["policy.model"]
    inputs |= loop.settings("policy.save_dtype", *_CARD) | loop.tokenizer_inputs

    def work(folder: Path) -> ResultFigures | None:
        figures: ResultFigures | None = None
        if distributed.is_main():
            rates = _win_rates(loop, [name for name in inputs if name.endswith("/evaluate")])
            card = shutil.ignore_patterns("README.md")
            shutil.copytree(loop.run.path(stage, POLICY), folder, ignore=card, dirs_exist_ok=True)
            _name_base(loop, best, folder)
            cast = _in_its_dtype(loop, best, initial, folder)
            figures = ResultFigures(best.name, cast.digest, decision.reason, rates, cast.dtype, cast.kept, cast.before)
            (folder / "README.md").write_text(_result_card(loop, figures, folder), encoding="utf-8")
        return distributed.broadcast(figures)

    return loop.stage(RESULT, inputs, work)


@dataclass(frozen=True)
class _Cast:
    """The data type and digest of the saved weights; where they were cast, the digest before, and the share of the
    training's change that is left."""

    dtype: str
    digest: str
    before: str | None = None
    kept: float | None = None


def _in_its_dtype(loop: Loop, best: Policy, initial: Policy, folder: Path) -> _Cast:
    """Cast the result to the data type that is asked for."""
    config = loop.config.policy
    base = loop.run.figures(POLICIES, PoliciesFigures).base
    asked = base.dtype if config.save_dtype == "auto" else config.save_dtype
    is_adapter = best.source.adapter is not None
    own = saved_dtype(PolicySource(best.source.model, adapter=str(folder)) if is_adapter else PolicySource(str(folder)))
    if asked == own:
        return _Cast(own, best.digest)
    # An adapter begins at 0, where every data type is as fine as the change itself.
    kept = None if is_adapter else kept_change(Path(initial.source.model), folder, asked)
    try:
        cast_saved(folder, asked)
    except ModelError as error:
        say(f"warning: the result stays in {own}: {error}")
        return _Cast(own, best.digest)
    how = "as the model came" if config.save_dtype == "auto" else "by policy.save_dtype"
    say(f"the result is saved in {asked}, {how}; trained in {own}")
    if kept is not None and kept < _KEPT:
        say(
            f"warning: rounding to {asked} leaves {percent(kept, 0)} of what the rounds changed, so the result is not "
            "the policy that was evaluated; policy.save_dtype: float32 keeps all of it"
        )
    source = PolicySource(best.source.model, adapter=str(folder)) if is_adapter else PolicySource(str(folder))
    return _Cast(asked, weights_digest(source), best.digest, kept)


def _name_base(loop: Loop, best: Policy, folder: Path) -> None:
    """Name a base that lies in the run by its place beside the result, which moves with the run."""
    settings, root = folder / ADAPTER_SETTINGS, loop.run.root.absolute()
    base = Path(best.source.model)
    if settings.is_file() and base.is_relative_to(root):
        place = os.path.relpath(base, root / RESULT)
        write_json(settings, read_json(settings) | {"base_model_name_or_path": place})


def _win_rates(loop: Loop, stages: list[str]) -> dict[str, dict[str, Interval]]:
    """Win rate with its interval of every evaluated policy against every other, as far as their evaluations judged
    them: a judge may cost money, so none is asked here. The other way round a verdict is turned. Where the scorer
    judges, the scores of all answers are there, and so are all win rates."""
    if loop.judge is None:
        return {}
    by_score = isinstance(loop.judge, ScorerJudge)
    names = {stage: loop.run.figures(stage, EvaluateFigures).name for stage in stages}
    rates: dict[str, dict[str, Interval]] = {name: {} for name in names.values()}
    for earlier, later in combinations(names, 2):
        found = stored_verdicts(loop, later).get(names[earlier], [])
        if by_score and not found:
            found = verdicts_by_score(loop, later, earlier)
        for own, other, verdicts in ((later, earlier, found), (earlier, later, [turned(each) for each in found])):
            rate = win_rate(verdicts)
            if rate is not None:
                rates[names[own]][names[other]] = rate
    return {name: {rival: found[rival] for rival in rates if rival in found} for name, found in rates.items()}


def _dtype(figures: ResultFigures) -> str:
    """The data type of saved weights, for the card; the figures are those of the weights as they were trained."""
    if figures.trained_digest is None:
        return ""
    kept = figures.kept_change
    left = f", {percent(kept, 0)} of what the rounds changed is left" if kept is not None and kept < _KEPT else ""
    return (
        f"{figures.dtype}, rounded from those that the figures below are of (sha256 `{figures.trained_digest}`){left}, "
    )


def _result_card(loop: Loop, figures: ResultFigures, folder: Path) -> str:
    is_adapter = (folder / ADAPTER_SETTINGS).is_file()
    base = loop.run.figures(POLICIES, PoliciesFigures).base.hub
    return model_card(loop.run, loop.config, figures, is_adapter=is_adapter, base_model=base)


def model_card(run: Run, config: RunConfig, figures: ResultFigures, *, is_adapter: bool, base_model: str | None) -> str:
    """The card of a policy of the run, in Markdown with a YAML header; no path of this machine is in it.

    Args:
        run: Where the policy was trained.
        config: The run's, with what a world supplied.
        figures: Of the stage ``result``; without a reason the card is that of a round.
        is_adapter: Whether the card is that of an adapter, or of a whole model.
        base_model: Name on the hub of the model that the run began with; None where it is not there.
    """
    found = run_figures(run, figures.win_rates)
    own = None if config.world is None else config.world.own
    is_built_in = config.world is not None and own is None
    policies = run.figures(POLICIES, PoliciesFigures)
    base, reference = policies.base, policies.reference
    name = "the built-in world" if is_built_in else code(base_model or Path(base.source).name)
    if run.exists(BASE):
        name = _merged_base(run, is_built_in)
    datasets = "the built-in world"
    if own is not None:
        datasets = f"answers to {_files(own.prompts)}, labelled by {code(own.scorer)}"
    elif config.data.pairs is not None and not is_built_in:
        datasets = _files(config.data.pairs)
    head: dict[str, Any] = {"library_name": "peft" if is_adapter else "transformers", "pipeline_tag": "text-generation"}
    head["tags"] = ["seralign", "preference-optimization", *(term.name for term in config.objective.terms)]
    head["tags"] += ["sera"] if config.rounds > 1 else []
    if base_model is not None:
        head["base_model"] = base_model
    objective = config.objective
    whole = to_dict(config)
    sera = "by SeRA" if recipe_name(whole) == "sera" else "in rounds, after SeRA"
    method = f"{sera} (arXiv 2410.09362)" if config.rounds > 1 else f"by {objective.name}"
    update = ", moved to the previous round's policy each round" if config.reference.update == "each_round" else ""
    chosen = f"this is {figures.policy} of {config.rounds}"
    if figures.reason:
        chosen = f"the result is {figures.policy} ({figures.reason})"
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {code(run.root.resolve().name)}\n",
        f"A policy aligned with preferences {method}, made with seralign from {name}.\n",
        f"- **Data**: {datasets}, {run.figures(DATA, DataFigures).pairs} pairs",
        f"- **Reference**: {code(_reference(run, config))}, weights sha256 `{reference.digest}`{update}",
        f"- **Objective**: {described(whole['objective'])}",
        *([f"- **Before round 1**: {'; '.join(crossfit_lines(found.crossfit))}"] if found.crossfit else []),
        *([f"- **Each later round**: {'; '.join(round_lines(whole))}"] if config.rounds > 1 else []),
        f"- **Rounds**: {chosen}",
        f"- **Weights**: {_dtype(figures)}sha256 `{figures.digest}`\n",
        "## Figures\n",
        policies_markdown(found),
        "\nScores are by the run's scorer; KL is the mean log-ratio to the reference on sampled answers, in nats;",
        f"held-out {ACCURACY}. Intervals are 95%.\n",
        "## Warnings\n",
        warnings_markdown(found.warnings) + "\n",
    ]
    return "\n".join(lines)


def _merged_base(run: Run, is_built_in: bool) -> str:
    """What the run began with, where that was a model with an adapter merged into it."""
    given = run.figures(BASE, BaseFigures)
    model = "the built-in world" if is_built_in else code(given.hub or portable(given.model))
    return f"{model} with the adapter {code(portable(given.adapter))} merged into it"


def _files(source: SourceConfig) -> str:
    """A source's files by their names, or the name of its data set on the hub."""
    paths = [source.path] if isinstance(source.path, str) else source.path
    return ", ".join(code(portable(path)) for path in paths)


def _reference(run: Run, config: RunConfig) -> str:
    """Who the reference was, without the folders that it lies in."""
    given = config.reference
    if given.model is not None:
        return " + ".join(portable(part) for part in (given.model, given.adapter) if part is not None)
    figures, root = run.figures(POLICIES, PoliciesFigures), str(run.root.absolute()) + os.sep
    named = {figures.base.source: figures.base.hub or ""}
    parts = figures.reference.source.split(" + ")
    return " + ".join(
        named.get(part) or (part.removeprefix(root) if part.startswith(root) else portable(part)) for part in parts
    )
