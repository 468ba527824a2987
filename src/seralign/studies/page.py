"""What a study found as a page of Markdown, with plots beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seralign.runs.files import write_atomic
from seralign.studies.config import SUPERVISED
from seralign.studies.frontier import undominated
from seralign.studies.svg import Line, Mean, intervals_svg, lines_svg
from seralign.studies.tables import LEGEND, headline, round_tables, world_tables
from seralign.tables import Table, markdown


def write_page(figures: dict[str, Any], page: Path) -> None:
    """Write the page, and its plots into a folder beside it that has its name.

    Args:
        figures: From ``seralign.studies.results.study_figures``.
        page: The Markdown file.
    """
    folder = page.parent / page.stem
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"# {Path(figures['study']).name}\n", f"{headline(figures)}. Seeds: {_list(figures['seeds'])}.\n"]
    lines += [f"Baseline: {figures['baseline']}. Ceiling: {figures['ceiling'] or 'none'}. {LEGEND}\n"]
    for world in figures["worlds"]:
        lines.append(f"## World {world}\n")
        for name, text in world_plots(figures, world):
            write_atomic(folder / name, lambda part, text=text: part.write_text(text, encoding="utf-8"))
            lines.append(f"![{name.removesuffix('.svg')}]({folder.name}/{name})\n")
        lines += [_captioned(table) for table in world_tables(figures, world)]
    if pooled := [_captioned(table) for table in round_tables(figures)]:
        lines += ["## All worlds\n", *pooled]
    write_atomic(page, lambda part: part.write_text("\n".join(lines), encoding="utf-8"))


def _captioned(table: Table) -> str:
    return f"**{table.caption[0].upper()}{table.caption[1:]}**\n\n{markdown(table)}\n"


def world_plots(figures: dict[str, Any], world: str) -> Iterator[tuple[str, str]]:
    """The plots of a world by file name: the frontiers, then wins and excess with their intervals."""
    found, baseline = figures["worlds"][world], figures["baseline"]
    for temperature, points in found["points"].items():
        rows = found["temperatures"][temperature]
        several = {name for name in rows if name in found["rounds"]}
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
        for key, even, title in (
            ("win_rate", 0.5, f"wins against the best {baseline}"),
            ("best_excess", 0.0, f"largest excess over the frontier of {baseline}"),
        ):
            means = [Mean(name, **_ends(row[key])) for name, row in rows.items() if row[key] and name != SUPERVISED]
            if means:
                named = f"world {world}, temperature {temperature}: {title}"
                yield f"{world}-{temperature}-{key.replace('_', '-')}.svg", intervals_svg(named, means, even)


def _frontiers(points: dict[str, Any], names: list[str], baseline: str) -> list[Line]:
    """A line a method, all of them from the supervised policy."""
    start = [tuple(point) for point in points.get(SUPERVISED, {}).values()]
    lines = []
    for name in names:
        dots = [tuple(point) for point in points[name].values()]
        if name != SUPERVISED and dots:
            curve = start + dots
            joined = [curve[place] for place in undominated(curve)]
            lines.append(Line(name, dots, joined, bold=name == baseline))
    return sorted(lines, key=lambda line: not line.bold)


def _ends(interval: dict[str, Any]) -> dict[str, Any]:
    return {name: interval[name] for name in ("mean", "low", "high")}


def _list(values: list[Any]) -> str:
    return ", ".join(map(str, values))
