"""Texts of a run that makes all of its pairs: online DPO, SPIN, SAPO (``bootstrap.method``)."""

from __future__ import annotations

from typing import Any

from seralign.report.record import RunFigures
from seralign.runs.data_figures import SourceFigures
from seralign.tables import counted, number, percent

# How each method is called, and its paper where it has one.
NAMES = {
    "online": "online preference optimization",
    "spin": "SPIN (arXiv 2401.01335)",
    "sapo": "SAPO (arXiv 2405.20830), in rounds",
}
_MADE = {
    "online": "two sampled responses",
    "spin": "a demonstration, chosen, and a sampled response, rejected",
    "sapo": "a demonstration, chosen, and the same with a sampled segment, rejected",
}
# How the policies of ``bootstrap.sample_from`` are called.
SAMPLED_FROM = {
    "initial": "the starting policy",
    "policy": "the last policy",
    "previous": "the policy before the last",
    "average": "the moving average of the policies",
}


def made_from(figures: RunFigures) -> tuple[str, SourceFigures] | None:
    """What the pairs are made from and the figures of its source: ``demonstrations``, ``prompts``, or ``pairs`` (of
    which the chosen responses or the prompts are used); None before there are data."""
    if figures.data is None:
        return None
    sources, first = figures.data.sources, "prompts" if figures.method == "online" else "demonstrations"
    return next(((name, sources[name]) for name in (first, "pairs") if name in sources), None)


def data_lines(figures: RunFigures) -> list[str]:
    """Where the data came from, a line each."""
    found = made_from(figures)
    if found is None:
        return ["No data read yet"]
    name, source = found
    return [
        f"{source.kept:,} of {source.read:,} {name} read from {source.source}; no offline pairs are trained on",
        f"dropped: {counted(source.located(source.dropped)) or 'none'}",
    ]


def round_lines(config: dict[str, Any]) -> list[str]:
    """The training data of each round, in lines; ``config`` is the configuration as in ``run.json``."""
    bootstrap = config["bootstrap"]
    method, rule = bootstrap["method"], bootstrap["selection"]
    answers = f"sampled by {SAMPLED_FROM[bootstrap['sample_from']]} at temperature {bootstrap['temperature']:g}"
    lines = [f"method {method}", f"pairs: {_MADE[method]}; {bootstrap['samples']} a prompt, {answers}"]
    if method == "online":
        by = "the judge" if bootstrap["labels"] == "judge" else f"reward: {config['scoring']['reward']}"
        lines.append(f"labelled by {by}")
    if bootstrap["sample_from"] == "average":
        lines.append(f"the average keeps {number(bootstrap['decay'], 2)} of the earlier policies")
    if rule["rule"] != "all":
        lines.append(f"{rule['rule']} {percent(rule['fraction'], 0)} selected")
    if bootstrap["replay"]:
        lines.append(f"pairs of {bootstrap['replay']} earlier rounds are used again")
    return lines
