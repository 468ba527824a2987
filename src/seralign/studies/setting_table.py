"""The table of all settings of a world: KL and gold reward, seed by seed, and what each cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from seralign.studies.figures import CostFigures, SettingFigures, StudyFigures
from seralign.tables import ABSENT, Column, Table, number, percent, table


@dataclass(frozen=True)
class SettingPoints:
    """The row of a setting: mean KL and gold reward on test prompts, by temperature; and its seeds."""

    method: str
    setting: str
    kl: float
    gold: dict[str, float]
    found: SettingFigures


def setting_table(figures: StudyFigures, world: str) -> Table:
    """Every setting of every method, finished seeds only."""
    own = figures.worlds[world]
    first = next(iter(own.points))
    rows = [
        SettingPoints(
            method,
            label,
            kl,
            {at: found[method][label][1] for at, found in own.points.items()},
            own.settings[method][label],
        )
        for method, settings in own.points[first].items()
        for label, (kl, _) in settings.items()
    ]
    columns = [
        Column[SettingPoints]("method", lambda row: row.method),
        Column[SettingPoints]("setting", lambda row: row.setting),
        Column[SettingPoints]("KL", lambda row: number(row.kl, 1)),
        *(Column[SettingPoints](f"gold, T = {at}", lambda row, at=at: number(row.gold[at], 3)) for at in own.points),
    ]
    if len(figures.seeds) > 1:
        columns += [
            Column[SettingPoints]("KL by seed", lambda row: _seeds(row.found.kl, lambda value: number(value, 1))),
            Column[SettingPoints](
                f"gold, T = {first}, by seed", lambda row: _seeds(row.found.gold, lambda value: number(value, 2))
            ),
            Column[SettingPoints]("unfinished by seed", lambda row: _seeds(row.found.unfinished, percent)),
        ]
    if any(row.found.cost is not None for row in rows):
        columns += [
            Column[SettingPoints]("seconds", lambda row: _cost(row, lambda cost: cost.seconds, 1)),
            Column[SettingPoints]("sampled, 1000 tokens", lambda row: _cost(row, lambda cost: cost.sampled / 1000, 1)),
            Column[SettingPoints](
                "trained on, 1000 tokens", lambda row: _cost(row, lambda cost: _thousands(cost.trained), 1)
            ),
        ]
    return table(f"world {world}, all settings, means over seeds", tuple(columns), rows)


def _seeds(values: Mapping[str, float], shown: Callable[[float], str]) -> str:
    return ", ".join(map(shown, values.values()))


def _thousands(count: float | None) -> float | None:
    return None if count is None else count / 1000


def _cost(row: SettingPoints, read: Callable[[CostFigures], float | None], digits: int) -> str:
    return ABSENT if row.found.cost is None else number(read(row.found.cost), digits)
