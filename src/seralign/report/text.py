"""The figures of a run as tables: for the terminal, and as Markdown for the model card."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def run_tables(figures: dict[str, Any]) -> RenderableType:
    """The run as tables: data, rounds, policies, and how it ended."""
    parts: list[RenderableType] = [Text(_headline(figures)), Text(_data(figures)), Text("")]
    if figures["rounds"]:
        parts += [_table("rounds: what each trained on", _ROUND_COLUMNS, map(_round_row, figures["rounds"])), Text("")]
    if figures["policies"]:
        columns, rows = _policy_table(figures["policies"])
        parts += [_table("policies: answers to held-out prompts, held-out pairs", columns, rows), Text("")]
    seconds = sum(stage["seconds"] for stage in figures["stages"])
    memory = max((stage["peak_memory_mb"] for stage in figures["stages"]), default=0.0)
    parts.append(Text(f"{seconds:,.0f} s of work, peak memory {memory:,.0f} MB"))
    parts.append(Text(_ending(figures)))
    return Group(*parts)


def policies_markdown(policies: list[dict[str, Any]]) -> str:
    """The table of policies as Markdown."""
    columns, rows = _policy_table(policies)
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


_ROUND_COLUMNS = (
    "round", "offline kept", "their margin", "sampled", "pairs made", "made kept", "made share", "steps",
    "training accuracy",
)  # fmt: skip


def _round_row(figures: dict[str, Any]) -> tuple[str, ...]:
    def of(stage: str, name: str) -> Any:
        return (figures[stage] or {}).get(name)

    selected = f"{of('select', 'kept')} / {of('select', 'pairs')}" if figures["select"] else "all"
    train = of("train", "train") or {}
    return (
        str(figures["round"]),
        selected,
        _number(of("select", "margin_mean_kept"), 2),
        _number(of("sample", "responses"), 0),
        _number(of("bootstrap", "pairs"), 0),
        _number(of("bootstrap", "kept"), 0),
        _percent(of("compose", "share")),
        _number(of("train", "steps"), 0),
        _percent(train.get("rewards/accuracies")),
    )


def _policy_table(policies: list[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rivals = [policy["name"] for policy in policies if policy["role"] in ("initial", "baseline")]
    columns = ("policy", "score", *(f"wins against {name}" for name in rivals), "length", "kl")
    columns += ("accuracy", "margin", "distinct-2", "unfinished")
    return columns, [_policy_row(policy, rivals) for policy in policies]


def _policy_row(figures: dict[str, Any], rivals: list[str]) -> tuple[str, ...]:
    return (
        figures["name"],
        _interval(figures["score"], 3),
        *(_interval(figures["win_rates"].get(name), 3) for name in rivals),
        _number(figures["length"], 1),
        _interval(figures["kl"], 2),
        _percent(figures["heldout_accuracy"]),
        _number(figures["heldout_margin"], 2),
        _number(figures["distinct_2"], 3),
        _percent(figures["unfinished"]),
    )


def _headline(figures: dict[str, Any]) -> str:
    reference = figures["reference"]
    named = "" if reference is None else f", reference {reference['source']} ({reference['digest'][:16]})"
    return f"{figures['run']}: {figures['objective']}{named}"


def _data(figures: dict[str, Any]) -> str:
    data = figures["data"]
    if not data:
        return "no data read yet"
    source = data["sources"]["pairs"]
    dropped = ", ".join(f"{count} {reason}" for reason, count in source["dropped"].items())
    noted = ", ".join(f"{count} {reason}" for reason, count in source["noted"].items())
    text = f"{data['pairs']} pairs to train on, {data['heldout']} held out"
    text += f"; dropped {dropped}" if dropped else "; none dropped"
    return text + (f"; noted {noted}" if noted else "")


def _ending(figures: dict[str, Any]) -> str:
    if figures["result"] is None:
        return f"not finished ({figures['stopped'] or 'no round done yet'}); the same command goes on"
    return f"result: {figures['result']['policy']} in {figures['run']}/result ({figures['stopped']})"


def _table(title: str, columns: tuple[str, ...], rows: Any) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def _interval(value: dict[str, Any] | None, digits: int) -> str:
    if value is None:
        return "–"
    if value["low"] is None:
        return _number(value["mean"], digits)
    return f"{value['mean']:.{digits}f} ± {(value['high'] - value['low']) / 2:.{digits}f}"
