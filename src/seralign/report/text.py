"""The figures of a run as tables: for the terminal, and as Markdown for the model card."""

from __future__ import annotations

from typing import Any

import rich.table
from rich.console import Group, RenderableType
from rich.text import Text

from seralign.report.facts import crossfit_lines, merged_line
from seralign.report.format import ACCURACY, called
from seralign.report.summary import accuracy
from seralign.report.trainings import losses_table
from seralign.tables import ABSENT, Table, counted, interval, markdown, number, percent, terminal, without_empty


def run_tables(figures: dict[str, Any]) -> RenderableType:
    """The run as tables: data, rounds, policies, and how it ended."""
    parts: list[RenderableType] = [Text(_headline(figures)), Text(_data(figures))]
    if figures["base"]:
        parts.append(Text(f"base: {merged_line(figures['base'])}"))
    parts.append(Text(""))
    if figures["rounds"] and figures["objective"] != "sft":
        rows = tuple(map(_round_row, figures["rounds"]))
        parts += [terminal(Table(_ROUND_TITLE, _ROUND_COLUMNS, rows)), Text("")]
    reviewed = [entry for entry in figures["rounds"] if entry["select"]]
    if reviewed:
        rows = tuple(map(_review_row, reviewed))
        parts += [terminal(Table(_REVIEW_TITLE, _REVIEW_COLUMNS, rows)), Text("")]
    if figures["trainings"]:
        rows = [(one["called"], one) for one in figures["trainings"]]
        parts += [terminal(without_empty(losses_table(rows))), Text("")]
    if figures["policies"]:
        table = _policy_table(figures["policies"])
        parts += [terminal(without_empty(table) if figures["objective"] == "sft" else table), Text("")]
    seconds = sum(stage["seconds"] for stage in figures["stages"])
    memory = max((stage["peak_memory_mb"] for stage in figures["stages"]), default=0.0)
    parts.append(Text(f"{seconds:,.0f} s of work, peak memory {memory:,.0f} MB"))
    parts += [Text(note) for note in figures["notes"]]
    parts.append(Text(_ending(figures)))
    if figures["warnings"]:
        parts += [Text(""), _warnings(figures["warnings"])]
    return Group(*parts)


def warnings_markdown(warnings: list[dict[str, Any]]) -> str:
    """The warnings as a Markdown list, or a sentence where there are none."""
    if not warnings:
        return "None of the figures is beyond its limit."
    return "\n".join(f"- {warning['text']} {warning['advice']}" for warning in warnings)


def policies_markdown(policies: list[dict[str, Any]]) -> str:
    """The table of policies as Markdown."""
    return markdown(_policy_table(policies))


_ROUND_TITLE = (
    f"rounds: what each selected, made and trained on; training accuracy is of the last logged step; {ACCURACY}"
)
_ROUND_COLUMNS = (
    "round", "offline selected", "their margin", "sampled", "pairs made", "made selected", "trained on: offline",
    "trained on: made", "made share", "steps", "training accuracy",
)  # fmt: skip


def _round_row(figures: dict[str, Any]) -> tuple[str, ...]:
    def of(stage: str, name: str) -> Any:
        return (figures[stage] or {}).get(name)

    first = "all" if figures["train"] else ABSENT
    selected = f"{of('select', 'kept')} / {of('select', 'pairs')}" if figures["select"] else first
    train = of("train", "train") or {}
    # What the mix took is trained on once the round is trained; a round without a mix trains on all that it was given.
    mixed = (figures["compose"] or {"offline": of("train", "pairs"), "generated": 0}) if figures["train"] else {}
    return (
        str(figures["round"]),
        selected,
        number(of("select", "margin_mean_kept"), 2),
        number(of("sample", "responses"), 0),
        number(of("bootstrap", "pairs"), 0),
        number(of("bootstrap", "kept"), 0),
        number(mixed.get("offline"), 0),
        number(mixed.get("generated"), 0),
        percent(mixed.get("share")),
        number(of("train", "steps"), 0),
        percent(train.get("rewards/accuracies")),
    )


_REVIEW_TITLE = "reviews: correlation of margins with chosen less rejected tokens; bigrams that the two have in common"
_REVIEW_COLUMNS = (
    "round", "offline accuracy", "margin ~ length", "of kept", "of made", "of made kept", "kept alike", "made alike",
    "sampled length", "distinct-2", "cut off",
)  # fmt: skip


def _review_row(figures: dict[str, Any]) -> tuple[str, ...]:
    def of(stage: str, name: str) -> Any:
        return (figures[stage] or {}).get(name)

    return (
        str(figures["round"]),
        percent(of("score", "accuracy")),
        number(of("select", "margin_length_correlation"), 2),
        number(of("select", "margin_length_correlation_kept"), 2),
        number(of("bootstrap", "margin_length_correlation"), 2),
        number(of("bootstrap", "margin_length_correlation_kept"), 2),
        percent(of("select", "similarity_kept")),
        percent(of("bootstrap", "similarity_kept")),
        number(of("sample", "length"), 1),
        number(of("sample", "distinct_2"), 3),
        percent(of("sample", "unfinished")),
    )


def _policy_table(policies: list[dict[str, Any]]) -> Table:
    rivals = {policy["name"]: called(policy) for policy in policies if policy["role"] in ("initial", "baseline")}
    columns = ("policy", "score", *(f"wins against {name}" for name in rivals.values()), "length", "kl")
    columns += ("held-out accuracy", "held-out margin", "distinct-2", "cut off")
    rows = tuple(_policy_row(policy, list(rivals)) for policy in policies)
    return Table(f"policies: answers to held-out prompts, held-out pairs, 95% intervals; {ACCURACY}", columns, rows)


def _policy_row(figures: dict[str, Any], rivals: list[str]) -> tuple[str, ...]:
    return (
        called(figures),
        interval(figures["score"], 3),
        *(interval(figures["win_rates"].get(name), 3) for name in rivals),
        number(figures["length"], 1),
        interval(figures["kl"], 2),
        accuracy(figures),
        number(figures["heldout_margin"], 2),
        number(figures["distinct_2"], 3),
        percent(figures["unfinished"]),
    )


def _warnings(warnings: list[dict[str, Any]]) -> rich.table.Table:
    table = rich.table.Table.grid(padding=(0, 2))
    table.title, table.title_justify, table.title_style = "warnings", "left", "bold"
    for warning in warnings:
        table.add_row(
            Text(warning["kind"], style="bold"), Text.assemble((warning["text"], "yellow"), " ", warning["advice"])
        )
    return table


def _headline(figures: dict[str, Any]) -> str:
    reference = figures["reference"]
    named = "" if reference is None else f", reference {reference['source']} ({reference['digest'][:16]})"
    return f"{figures['run']}: {figures['objective']}{named}"


def _data(figures: dict[str, Any]) -> str:
    data = figures["data"]
    if not data:
        return "no data read yet"
    source = data["sources"]["pairs"]
    dropped = counted(source["dropped"])
    noted = counted(source["noted"])
    text = f"{data['pairs']} pairs to train on, {data['heldout']} held out"
    text += f"; dropped {dropped}" if dropped else "; none dropped"
    text += f"; noted {noted}" if noted else ""
    return "\n".join([text, *(crossfit_lines(review) if (review := figures["crossfit"]) else [])])


def _ending(figures: dict[str, Any]) -> str:
    if figures["result"] is None:
        return f"no result yet ({figures['stopped'] or 'no round done yet'})"
    return f"result: {figures['result']['policy']} in {figures['run']}/result ({figures['stopped']})"
