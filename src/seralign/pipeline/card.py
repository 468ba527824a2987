"""The model card of a policy of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from seralign.config import RunConfig, SourceConfig, to_dict
from seralign.config.objective import described
from seralign.config.recipes import recipe_name
from seralign.policy.identity import portable
from seralign.report.columns import ACCURACY
from seralign.report.facts import crossfit_lines, reference_moves, round_lines
from seralign.report.figures import run_figures
from seralign.report.made_pairs import NAMES, made_from
from seralign.report.text import policies_markdown, warnings_markdown
from seralign.runs import Run
from seralign.runs.data_figures import DataFigures
from seralign.runs.figures import BaseFigures, PoliciesFigures, ResultFigures
from seralign.runs.layout import BASE, DATA, POLICIES
from seralign.tables import code, percent

# If rounding leaves less than this share of the change, the card has a warning.
KEPT = 0.9
_REWARD_MODEL = "A reward model (AutoModelForSequenceClassification with one label), trained on preferences"
_POLICY_FIGURES = (
    "\nScores are by the run's scorer; KL is the mean log-ratio to the reference on sampled answers, in nats;",
    f"held-out {ACCURACY}. Intervals are 95%.\n",
)
_REWARD_FIGURES = (
    "\nHeld-out accuracy: share of pairs of responses whose better one has the higher reward, ties half. Margins are",
    "differences of rewards. Intervals are 95%. The reward is read at the last token of a response, its end token.\n",
)


def model_card(run: Run, config: RunConfig, figures: ResultFigures, *, is_adapter: bool, base_model: str | None) -> str:
    """The card of a policy of the run, in Markdown with a YAML header and without paths of this machine.

    Args:
        run: The run that trained the policy.
        config: The run's configuration, completed from its world.
        figures: Figures of the stage ``result``; without a reason, the card is for a round's policy.
        is_adapter: Whether the policy is an adapter.
        base_model: Hub name of the model that the run started from; None if it is not on the hub.
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
    elif (source := _source(config)) is not None and not is_built_in:
        datasets = _files(source)
    is_policy = config.objective.samples
    head: dict[str, Any] = {"library_name": "peft" if is_adapter else "transformers"}
    head["pipeline_tag"] = "text-generation" if is_policy else "text-classification"
    tag = "preference-optimization" if is_policy else "reward-model"
    head["tags"] = ["seralign", tag, *(term.name for term in config.objective.terms)]
    head["tags"] += [found.method] if config.rounds > 1 or config.generates_all else []
    if base_model is not None:
        head["base_model"] = base_model
    objective = config.objective
    whole = to_dict(config)
    sera = "by SeRA" if recipe_name(whole) == "sera" else "in rounds, after SeRA"
    method = f"{sera} (arXiv 2410.09362)" if config.rounds > 1 else f"by {objective.name}"
    if config.generates_all:
        method = f"by {NAMES[found.method]} with {objective.name}"
    update = f", {moves}" if (moves := reference_moves(whole)) else ""
    if config.reference.sync_steps is not None:
        update += f"; in training, it takes {config.reference.mixup:g} of the policy's weights every "
        update += f"{config.reference.sync_steps} steps"
    chosen = f"this is {figures.policy} of {config.rounds}"
    if figures.reason:
        chosen = f"the result is {figures.policy} ({figures.reason})"
    what, count = "demonstrations" if config.demonstrations_alone else "pairs", run.figures(DATA, DataFigures).pairs
    if config.generates_all and (made := made_from(found)) is not None:
        what, count = made[0], made[1].kept
    each = "Each round" if config.generates_all else "Each later round"
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {code(run.root.resolve().name)}\n",
        f"{f'A policy aligned with preferences {method}' if is_policy else _REWARD_MODEL}, made with seralign from "
        f"{name}.\n",
        f"- **Data**: {datasets}, {count} {what}",
        *(
            [f"- **Reference**: {code(_reference(run, config))}, weights sha256 `{reference.digest}`{update}"]
            if is_policy
            else []
        ),
        f"- **Objective**: {described(whole['objective'])}",
        *([f"- **Before round 1**: {'; '.join(crossfit_lines(found.crossfit))}"] if found.crossfit else []),
        *([f"- **{each}**: {'; '.join(round_lines(whole))}"] if config.rounds > 1 or config.generates_all else []),
        f"- **Rounds**: {chosen}",
        f"- **Weights**: {_dtype(figures)}sha256 `{figures.digest}`\n",
        "## Figures\n",
        policies_markdown(found),
        *(_POLICY_FIGURES if is_policy else _REWARD_FIGURES),
        "## Warnings\n",
        warnings_markdown(found.warnings) + "\n",
    ]
    return "\n".join(lines)


def _source(config: RunConfig) -> SourceConfig | None:
    """What the run is trained on, or makes its pairs of."""
    data = config.data
    if config.generates_all:
        return (data.demonstrations if config.demonstrated else data.prompts) or data.pairs
    return data.pairs or data.demonstrations


def _merged_base(run: Run, is_built_in: bool) -> str:
    """What the run started from, if that was a model with an adapter merged into it."""
    given = run.figures(BASE, BaseFigures)
    model = "the built-in world" if is_built_in else code(given.hub or portable(given.model))
    return f"{model} with the adapter {code(portable(given.adapter))} merged into it"


def _files(source: SourceConfig) -> str:
    """The file names of a source, or its dataset name on the hub."""
    paths = [source.path] if isinstance(source.path, str) else source.path
    return ", ".join(code(portable(path)) for path in paths)


def _reference(run: Run, config: RunConfig) -> str:
    """The reference, without local folders."""
    given = config.reference
    if given.model is not None:
        return " + ".join(portable(part) for part in (given.model, given.adapter) if part is not None)
    figures, root = run.figures(POLICIES, PoliciesFigures), str(run.root.absolute()) + os.sep
    named = {figures.base.source: figures.base.hub or ""}
    parts = figures.reference.source.split(" + ")
    return " + ".join(
        named.get(part) or (part.removeprefix(root) if part.startswith(root) else portable(part)) for part in parts
    )


def _dtype(figures: ResultFigures) -> str:
    """The data type of the saved weights; the figures in the card are those of the trained weights."""
    if figures.trained_digest is None:
        return ""
    kept = figures.kept_change
    left = f", {percent(kept, 0)} of what the rounds changed is left" if kept is not None and kept < KEPT else ""
    return (
        f"{figures.dtype}, rounded from those that the figures below are of (sha256 `{figures.trained_digest}`){left}, "
    )
