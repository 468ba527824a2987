"""The figures of a run as text: tables for the terminal, and as Markdown for the model card."""

from __future__ import annotations

from collections.abc import Sequence

import rich.table
from rich.console import Group, RenderableType
from rich.text import Text

from seralign.report.columns import ACCURACY, LOSS_COLUMNS, LOSSES, REVIEW_COLUMNS, ROUND_COLUMNS, policy_columns
from seralign.report.facts import crossfit_lines, merged_line
from seralign.report.made_pairs import made_from
from seralign.report.record import RunFigures, RunWarning
from seralign.runs.figures import Metrics
from seralign.runs.layout import RLHF_KL, RLHF_LENGTH, RLHF_REWARD, RLHF_SPREAD, RLHF_TRACKED
from seralign.tables import Table, counted, markdown, number, table, terminal, without_empty


def run_tables(figures: RunFigures) -> RenderableType:
    """The run as tables: data, rounds, policies, and how it ended."""
    parts: list[RenderableType] = [Text(_headline(figures)), Text(_data(figures))]
    if figures.base is not None:
        parts.append(Text(f"base: {merged_line(figures.base)}"))
    parts.append(Text(""))
    for found in _tables(figures):
        parts += [terminal(without_empty(found) if figures.supervised else found), Text("")]
    parts.append(Text(f"{figures.seconds:,.0f} s of work, peak memory {figures.peak_memory_mb:,.0f} MB"))
    parts += [Text(note) for note in figures.notes]
    parts.append(Text(_ending(figures)))
    if figures.warnings:
        parts += [Text(""), _warnings(figures.warnings)]
    return Group(*parts)


def _tables(figures: RunFigures) -> list[Table]:
    found = []
    if figures.rounds and not figures.supervised and not figures.rewarded:
        caption = "rounds: what each kept, generated and trained on; training accuracy is of the last logged step; "
        found.append(table(caption + ACCURACY, ROUND_COLUMNS, figures.rounds))
    if reviewed := [entry for entry in figures.rounds if entry.select is not None]:
        caption = (
            "reviews: correlation of margins with chosen less rejected tokens; how often and by how much chosen is the "
            "longer one of the generated pairs kept; bigrams that the two have in common"
        )
        found.append(table(caption, REVIEW_COLUMNS, reviewed))
    if figures.rewarded and (lines := [entry.train.train for entry in figures.rounds if entry.train is not None]):
        found.append(_reward(lines[-1]))
    if figures.trainings:
        found.append(without_empty(table(LOSSES, LOSS_COLUMNS, figures.trainings)))
    if figures.policies:
        found.append(_policies(figures))
    return found


def _reward(line: Metrics) -> Table:
    """The last line of metrics of a training on a reward."""
    columns = {RLHF_REWARD: "reward"}
    columns |= {key: key.removeprefix(RLHF_TRACKED) for key in line if key.startswith(RLHF_TRACKED)}
    columns |= {RLHF_SPREAD: "spread within a prompt", RLHF_KL: "KL, nats", RLHF_LENGTH: "length, tokens"}
    cells = tuple(number(line.get(key), 3) for key in columns)
    return Table("reward: means over the responses before the last logged step", tuple(columns.values()), (cells,))


def warnings_markdown(warnings: Sequence[RunWarning]) -> str:
    """The warnings as a Markdown list, or a sentence where there are none."""
    if not warnings:
        return "None of the figures is beyond its limit."
    return "\n".join(f"- {warning.text} {warning.advice}" for warning in warnings)


def policies_markdown(figures: RunFigures) -> str:
    """The table of policies as Markdown."""
    return markdown(_policies(figures))


def _policies(figures: RunFigures) -> Table:
    caption = "policies: answers to held-out prompts, 95% intervals"
    if not figures.supervised:
        caption = f"policies: answers to held-out prompts, held-out pairs, 95% intervals; {ACCURACY}"
    return table(caption, policy_columns(figures.rivals), figures.policies)


def _warnings(warnings: Sequence[RunWarning]) -> rich.table.Table:
    grid = rich.table.Table.grid(padding=(0, 2))
    grid.title, grid.title_justify, grid.title_style = "warnings", "left", "bold"
    for warning in warnings:
        grid.add_row(Text(warning.kind, style="bold"), Text.assemble((warning.text, "yellow"), " ", warning.advice))
    return grid


def _headline(figures: RunFigures) -> str:
    reference = figures.reference
    named = "" if reference is None else f", reference {reference.source} ({reference.digest[:16]})"
    return f"{figures.run}: {figures.objective}{named}"


def _data(figures: RunFigures) -> str:
    data = figures.data
    if data is None:
        return "no data read yet"
    if figures.generates_all and (made := made_from(figures)) is not None:
        name, source = made
        dropped = counted(source.located(source.dropped)) or "none"
        return f"{source.kept} {name}, of which rounds make pairs; {data.heldout} pairs held out; dropped {dropped}"
    if figures.rewarded and "pairs" not in data.sources:
        prompts = data.sources["prompts"]
        dropped = f"dropped {counted(prompts.located(prompts.dropped))}" if prompts.dropped else "none dropped"
        return f"{prompts.kept} prompts; {dropped}"
    name = "pairs" if "pairs" in data.sources else "demonstrations"
    source = data.sources[name]
    what = source.what if name == "pairs" else name
    dropped, noted = (counted(source.located(counts)) for counts in (source.dropped, source.noted))
    text = f"{data.pairs} {what} to train on, {data.heldout} held out"
    text += f"; dropped {dropped}" if dropped else "; none dropped"
    text += f"; noted {noted}" if noted else ""
    return "\n".join([text, *(crossfit_lines(figures.crossfit) if figures.crossfit is not None else [])])


def _ending(figures: RunFigures) -> str:
    if figures.result is None:
        return f"no result yet ({figures.stopped or 'no round done yet'})"
    return f"result: {figures.result.policy} in {figures.run}/result ({figures.stopped})"
