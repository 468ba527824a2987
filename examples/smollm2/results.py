"""The result of the demo: pass rates by kind of instruction before and after, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import seralign
from examples.smollm2.checks import KINDS, instruction_in
from seralign.intervals import Interval, mean_interval, share_interval
from seralign.report.figures import run_figures
from seralign.report.record import EvaluatedPolicy
from seralign.runs import Run
from seralign.runs.files import read_table, write_atomic
from seralign.runs.layout import INITIAL, SAMPLES, evaluation


@dataclass(frozen=True)
class Judged:
    """A policy on the held-out prompts: whether each answer passes, by prompt and kind, and its cost.

    Args:
        name: Of the policy.
        passes: 0 or 1 by the id of the prompt.
        kinds: Kind of instruction by the id of the prompt.
        length: Mean length of the answers, in tokens.
        unfinished: Share of answers without an end within the length limit.
        kl: KL to the reference of the run, in nats; None where it was not measured.
        perplexity: On texts of others.
    """

    name: str
    passes: Mapping[str, float]
    kinds: Mapping[str, str]
    length: float
    unfinished: float
    kl: Interval | None
    perplexity: Interval | None

    def rate(self, kinds: Sequence[str]) -> Interval | None:
        """The share of prompts of these kinds whose answer passes, with Wilson's interval over the prompts."""
        return share_interval([value for prompt, value in self.passes.items() if self.kinds[prompt] in kinds])

    def gain(self, other: Judged, kinds: Sequence[str]) -> Interval | None:
        """Mean difference to another policy on the same prompts, with Student's interval over the prompts."""
        prompts = [prompt for prompt in self.passes if self.kinds[prompt] in kinds]
        return mean_interval(np.array([self.passes[prompt] - other.passes[prompt] for prompt in prompts]))


Results = list[Judged]
"""The starting model first."""

SEEN = [kind.name for kind in KINDS if not kind.unseen]
UNSEEN = [kind.name for kind in KINDS if kind.unseen]


def collect(runs: Mapping[str, Path], perplexities: Mapping[str, Interval]) -> Results:
    """Read the last policy of each run, and the policy that the first run started from.

    Args:
        runs: Folders of finished runs by the name of the method; the first is the supervised one.
        perplexities: By name; ``start`` is the starting model.
    """
    found: Results = []
    for name, folder in runs.items():
        run = seralign.read_run(folder)
        policies = run_figures(run).policies
        if not found:
            start = next(policy for policy in policies if policy.role == INITIAL)
            found.append(_judged("start", run, start, perplexities))
        found.append(_judged(name, run, policies[-1], perplexities))
    return found


def collect_rounds(runs: Mapping[str, Path]) -> Results:
    """Read the policies of all rounds of runs by the name of the method, those with one round left out."""
    found: Results = []
    for name, folder in runs.items():
        run = seralign.read_run(folder)
        policies = [policy for policy in run_figures(run).policies if policy.role != INITIAL]
        if len(policies) > 1:
            found += [_judged(f"{name}, {policy.title}", run, policy, {}) for policy in policies]
    return found


def _judged(name: str, run: Run, policy: EvaluatedPolicy, perplexities: Mapping[str, Interval]) -> Judged:
    table = read_table(run.path(evaluation(policy.role), SAMPLES), ["prompt_id", "prompt", "score"]).to_pylist()
    figures = policy.figures
    assert figures.length is not None
    assert figures.unfinished is not None
    return Judged(
        name=name,
        passes={row["prompt_id"]: row["score"] for row in table},
        kinds={row["prompt_id"]: instruction_in(row["prompt"]).kind.name for row in table},
        length=figures.length,
        unfinished=figures.unfinished,
        kl=figures.kl,
        perplexity=perplexities.get(name),
    )


def table(found: Results) -> str:
    """Two tables in Markdown: pass rates, and what they cost."""
    names = [policy.name for policy in found]
    groups = [("**seen kinds**", SEEN), *((kind, [kind]) for kind in SEEN),
              ("**held-out kinds**", UNSEEN), *((kind, [kind]) for kind in UNSEEN)]  # fmt: skip
    lines = [_row("held-out prompts that pass, %", "prompts", *names), _row("---", "---:", *["---:"] * len(names))]
    for label, kinds in groups:
        rates = [policy.rate(kinds) for policy in found]
        if rates[0] is not None:
            lines.append(_row(label, str(rates[0].n), *(_percent(rate) for rate in rates)))
    # Gains over the starting model, and of the methods over the supervised start.
    for base in found[:2]:
        after = found[found.index(base) + 1 :]
        empty = [""] * (len(found) - len(after) + 1)
        for label, kinds in (("seen kinds", SEEN), ("held-out kinds", UNSEEN)) if after else ():
            gains = [_points(policy.gain(base, kinds)) for policy in after]
            lines.append(_row(f"gain over {base.name}, {label}", *empty, *gains))
    rows: list[tuple[str, Callable[[Judged], str]]] = [
        ("tokens an answer", lambda policy: f"{policy.length:.1f}"),
        ("unfinished answers, %", lambda policy: f"{100 * policy.unfinished:.0f}"),
        ("KL to the policy that its run started from, nats", lambda policy: _plain(policy.kl, 2)),
        ("perplexity on AlpacaEval answers", lambda policy: _plain(policy.perplexity, 2)),
    ]
    lines += ["", _row("cost", *names), _row("---", *["---:"] * len(names))]
    lines += [_row(label, *(show(policy) for policy in found)) for label, show in rows]
    return "\n".join(lines)


def rounds_table(rounds: Results, base: Judged) -> str:
    """A table in Markdown of the policies of all rounds, with their gains over another policy."""
    lines = [
        _row("policy", "seen kinds, % that pass", "held-out kinds", f"gain over {base.name}, seen", "held-out",
             "tokens an answer", "KL, nats"),
        _row("---", *["---:"] * 6),
    ]  # fmt: skip
    for policy in rounds:
        rates = [_percent(policy.rate(kinds)) for kinds in (SEEN, UNSEEN)]
        gains = [_points(policy.gain(base, kinds)) for kinds in (SEEN, UNSEEN)]
        lines.append(_row(policy.name, *rates, *gains, f"{policy.length:.1f}", _plain(policy.kl, 2)))
    return "\n".join(lines)


def write(found: Results, rounds: Results, path: Path) -> None:
    """Write the tables to a file, with what the numbers are; the second policy found is the supervised one."""
    text = (
        "# SmolLM2-135M-Instruct on formats\n\nOne answer to each held-out prompt, sampled at temperature 1. In "
        "brackets: 95% intervals over the prompts. The topics of these prompts were not trained on; of the held-out "
        f"kinds of instruction, no prompt was.\n\n{table(found)}\n\n"
        f"## Round by round\n\n{rounds_table(rounds, found[1])}\n"
    )
    write_atomic(path, lambda part: part.write_text(text, encoding="utf-8"))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(rate: Interval | None) -> str:
    if rate is None or rate.low is None or rate.high is None:
        return "" if rate is None else f"{100 * rate.mean:.0f}"
    return f"{100 * rate.mean:.0f} ({100 * rate.low:.0f} to {100 * rate.high:.0f})"


def _points(gain: Interval | None) -> str:
    if gain is None or gain.low is None:
        return "" if gain is None else f"{100 * gain.mean:+.0f}"
    return f"{100 * gain.mean:+.0f} ± {100 * (gain.mean - gain.low):.0f}"


def _plain(value: Interval | None, digits: int) -> str:
    if value is None:
        return ""
    ends = "" if value.low is None or value.high is None else f" ({value.low:.{digits}f} to {value.high:.{digits}f})"
    return f"{value.mean:.{digits}f}{ends}"
