"""The figures of a study as a page of Markdown, with plots beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from seralign.report.frontier import Point, undominated
from seralign.runs.files import write_atomic
from seralign.studies.config import SUPERVISED
from seralign.studies.figures import StudyFigures
from seralign.studies.reward_curve import curve_plots, curve_table
from seralign.studies.setting_table import setting_table
from seralign.studies.svg import Line, Mean, intervals_svg, lines_svg
from seralign.studies.tables import LEGEND, headline, round_tables, world_tables
from seralign.tables import Table, markdown


def write_page(figures: StudyFigures, page: Path) -> None:
    """Write the page, and its plots into a folder beside it that has its name.

    Args:
        figures: From ``seralign.studies.results.study_figures``.
        page: The Markdown file.
    """
    folder = page.parent / page.stem
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"# {Path(figures.study).name}\n", f"{headline(figures)}. Seeds: {', '.join(map(str, figures.seeds))}.\n"]
    lines += [f"Baseline: {figures.baseline}. Ceiling: {figures.ceiling or 'none'}. {LEGEND}\n"]
    for world in figures.worlds:
        lines.append(f"## World {world}\n")
        for name, text in (*world_plots(figures, world), *curve_plots(figures.worlds[world], world)):
            write_atomic(folder / name, lambda part, text=text: part.write_text(text, encoding="utf-8"))
            lines.append(f"![{name.removesuffix('.svg')}]({folder.name}/{name})\n")
        lines += [_captioned(table) for table in (*world_tables(figures, world), setting_table(figures, world))]
        if (curves := curve_table(figures.worlds[world], world)) is not None:
            lines.append(_captioned(curves))
    if pooled := [_captioned(table) for table in round_tables(figures)]:
        lines += ["## All worlds\n", *pooled]
    write_atomic(page, lambda part: part.write_text("\n".join(lines), encoding="utf-8"))


def _captioned(table: Table) -> str:
    return f"**{table.caption[0].upper()}{table.caption[1:]}**\n\n{markdown(table)}\n"


def world_plots(figures: StudyFigures, world: str) -> Iterator[tuple[str, str]]:
    """The plots of a world by file name: the frontiers, then wins and excess with their intervals."""
    found, baseline = figures.worlds[world], figures.baseline
    for temperature, points in found.points.items():
        rows = found.temperatures[temperature]
        several = {name for name in rows if name in found.rounds}
        for kind, names in (
            ("frontier", rows.keys() - several),
            ("frontier-rounds", several | ({baseline} & rows.keys())),
        ):
            lines = _frontiers(points, [name for name in rows if name in names], baseline)
            if len(lines) > 1:
                title = f"world {world}, temperature {temperature}: gold by KL"
                yield (
                    f"{world}-{temperature}-{kind}.svg",
                    lines_svg(title, "KL to the supervised policy", "gold", lines),
                )
        others = {name: row for name, row in rows.items() if name != SUPERVISED}
        wins = {name: row.win_rate for name, row in others.items()}
        excess = {name: row.best_excess for name, row in others.items()}
        for name, even, values, title in (
            ("win-rate", 0.5, wins, f"wins against the best {baseline}"),
            ("best-excess", 0.0, excess, f"largest excess over the frontier of {baseline}"),
        ):
            means = [
                Mean(method, each.mean, each.low, each.high) for method, each in values.items() if each is not None
            ]
            if means:
                named = f"world {world}, temperature {temperature}: {title}"
                yield f"{world}-{temperature}-{name}.svg", intervals_svg(named, means, even)


def _frontiers(points: Mapping[str, Mapping[str, Point]], names: Sequence[str], baseline: str) -> list[Line]:
    """A line a method, all of them from the supervised policy."""
    start = list(points.get(SUPERVISED, {}).values())
    lines = []
    for name in names:
        dots = list(points[name].values())
        if name != SUPERVISED and dots:
            curve = start + dots
            joined = [curve[place] for place in undominated(curve)]
            lines.append(Line(name, dots, joined, bold=name == baseline))
    return sorted(lines, key=lambda line: not line.bold)
