"""The last stage: the model that the run was for, with a card that says how it came about."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from seralign import distributed
from seralign.config import to_dict
from seralign.config.recipes import recipe_name
from seralign.evaluation.metrics import win_rate
from seralign.files import read_table
from seralign.loop.context import Loop, Policy
from seralign.loop.evaluating import SAMPLES
from seralign.report.figures import run_figures
from seralign.report.glance import crossfit_lines, round_lines
from seralign.report.text import alarms_markdown, policies_markdown
from seralign.stopping import Decision
from seralign.store import StageRecord

RESULT = "result"


def result_stage(loop: Loop, best: Policy, decision: Decision, initial: Policy, reference: Policy) -> StageRecord:
    """Put the best round's policy into ``result``: model or adapter, tokenizer, chat template, model card."""
    stage = f"round-{decision.best_round}/train"
    records = {record.name: record for record in loop.run.stages()}
    inputs = {name: record.digest for name, record in records.items() if name.endswith("/evaluate")}
    inputs["policy"] = best.digest

    def work(folder: Path) -> dict[str, Any]:
        figures = {
            "policy": best.name,
            "digest": best.digest,
            "reason": decision.reason,
            "win_rates": _win_rates(loop, [name for name in inputs if name.endswith("/evaluate")]),
        }
        if distributed.is_main():
            card = shutil.ignore_patterns("README.md")
            shutil.copytree(loop.run.path(stage, "policy"), folder, ignore=card, dirs_exist_ok=True)
            (folder / "README.md").write_text(_card(loop, figures, initial, reference), encoding="utf-8")
        return figures

    return loop.stage(RESULT, inputs, work)


def _win_rates(loop: Loop, stages: list[str]) -> dict[str, dict[str, Any]]:
    """Win rate with its interval of every evaluated policy against every other, by score on the same prompts."""
    if loop.scorer is None:
        return {}
    scores = {}
    for stage in stages:
        path = loop.run.path(stage, SAMPLES)
        if path.is_file():
            scores[loop.run.record(stage).figures["name"]] = read_table(path, ["score"])["score"].to_numpy()
    rates: dict[str, dict[str, Any]] = {}
    for name, own in scores.items():
        found = {rival: win_rate(own, theirs) for rival, theirs in scores.items() if rival != name}
        rates[name] = {rival: rate.to_dict() for rival, rate in found.items() if rate is not None}
    return rates


def _card(loop: Loop, figures: dict[str, Any], initial: Policy, reference: Policy) -> str:
    config = loop.config
    run = run_figures(loop.run, figures["win_rates"])
    own = None if config.world is None else config.world.own
    is_built_in = config.world is not None and own is None
    name = "the built-in world" if is_built_in else config.policy.model
    datasets = "the built-in world"
    if own is not None:
        datasets = f"answers to {own.prompts.path}, labelled by {own.scorer}"
    elif config.data.pairs is not None and not is_built_in:
        datasets = config.data.pairs.path
    is_adapter = config.policy.lora is not None or initial.source.adapter is not None
    head: dict[str, Any] = {"library_name": "peft" if is_adapter else "transformers", "pipeline_tag": "text-generation"}
    head["tags"] = ["seralign", "preference-optimization", config.objective.name]
    head["tags"] += ["sera"] if config.rounds > 1 else []
    if not is_built_in:
        head["base_model"] = config.policy.model
    objective = config.objective
    whole = to_dict(config)
    sera = "by SeRA" if recipe_name(whole) == "sera" else "in rounds, after SeRA"
    method = f"{sera} (arXiv 2410.09362)" if config.rounds > 1 else f"by {objective.name}"
    settings = "" if objective.name == "sft" else f", beta {objective.resolved_beta:g}"
    settings += f", gamma {objective.resolved_gamma:g}" if objective.name == "simpo" else ""
    anchor = ", moved to the previous round's policy each round" if config.reference.anchor == "previous" else ""
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {loop.run.root.name}\n",
        f"A policy aligned with preferences {method}, made with seralign from {name}.\n",
        f"- **Data**: {datasets}, {loop.run.record('data').figures['pairs']} pairs",
        f"- **Reference**: {_plain(loop, reference)}, weights sha256 `{reference.digest}`{anchor}",
        f"- **Objective**: {objective.name}{settings}",
        *([f"- **Before round 1**: {'; '.join(crossfit_lines(run['crossfit']))}"] if run["crossfit"] else []),
        *([f"- **Each later round**: {'; '.join(round_lines(whole))}"] if config.rounds > 1 else []),
        f"- **Rounds**: the result is {figures['policy']} ({figures['reason']})",
        f"- **Weights**: sha256 `{figures['digest']}`\n",
        "## Figures\n",
        policies_markdown(run["policies"]),
        "\nScores are by the run's scorer; kl is the mean log-ratio to the reference on sampled answers, in nats;",
        "accuracy is the share of held-out pairs with a positive implicit reward margin.\n",
        "## Alarms\n",
        alarms_markdown(run["alarms"]) + "\n",
    ]
    return "\n".join(lines)


def _plain(loop: Loop, policy: Policy) -> str:
    root = str(loop.run.root.absolute())
    return str(policy.source).replace(root + os.sep, "")
