"""The reward over the steps of trainings on it: of a run from its metrics, and of settings over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from seralign.runs import Run
from seralign.runs.layout import METRICS, RLHF_KL, RLHF_LENGTH, RLHF_REWARD, RLHF_TRACKED, STEP, round_name, training
from seralign.studies.cells import Setting
from seralign.studies.figures import CellFigures, RewardStep, WorldFigures, mean_of
from seralign.studies.svg import Line, lines_svg
from seralign.tables import Table, number


def reward_curve(run: Run) -> list[RewardStep]:
    """The lines of metrics of the training of a run."""
    text = run.path(training(round_name(1)), METRICS).read_text(encoding="utf-8")
    return [
        RewardStep(
            step=line[STEP],
            reward=line[RLHF_REWARD],
            tracked={
                key.removeprefix(RLHF_TRACKED): value for key, value in line.items() if key.startswith(RLHF_TRACKED)
            },
            kl=line.get(RLHF_KL),
            length=line[RLHF_LENGTH],
        )
        for line in map(json.loads, text.splitlines())
    ]


def mean_curves(settings: Sequence[Setting], finished: Mapping[str, CellFigures]) -> dict[str, list[RewardStep]]:
    """The curve of each setting that has one, the mean over its finished seeds."""
    found = {}
    for setting in settings:
        curves = [finished[digest].curve for digest in setting.cells.values() if digest in finished]
        curves = [curve for curve in curves if curve]
        if curves:
            steps = [mean_of(list(lines)) for lines in zip(*curves, strict=True)]
            found[f"{setting.method}, {setting.label}"] = [step for step in steps if step is not None]
    return found


def curve_table(figures: WorldFigures, world: str) -> Table | None:
    """The rewards of each setting at its first and last line, and the line with the most of the tracked score."""
    rows = []
    for name, curve in figures.curves.items():
        first, last = curve[0], curve[-1]
        cells = [name, number(first.reward, 3), number(last.reward, 3), number(last.kl, 1), number(last.length, 1)]
        for key in last.tracked:
            best = max(curve, key=lambda line, key=key: line.tracked[key])
            cells += [number(line.tracked[key], 3) for line in (first, best, last)] + [number(best.step, 0)]
        rows.append(tuple(cells + ["–"] * (9 - len(cells))))
    if not rows:
        return None
    columns = ("setting", "reward: first", "last", "KL: last", "tokens", "tracked: first", "most", "last", "at step")
    caption = f"world {world}, trainings on a reward: the reward and the tracked score of sampled responses, over seeds"
    return Table(caption, columns, tuple(rows))


def curve_plots(figures: WorldFigures, world: str) -> Iterator[tuple[str, str]]:
    """Plots of the reward and of each tracked score over the steps, by file name."""
    curves = figures.curves
    if not curves:
        return
    lines = [_line(name, [(line.step, line.reward) for line in curve]) for name, curve in curves.items()]
    yield f"{world}-reward.svg", lines_svg(f"world {world}: reward over the steps", "step", "reward", lines)
    tracked = [
        _line(name, [(line.step, next(iter(line.tracked.values()))) for line in curve])
        for name, curve in curves.items()
        if curve[0].tracked
    ]
    if tracked:
        title = f"world {world}: tracked score over the steps"
        yield f"{world}-tracked.svg", lines_svg(title, "step", "tracked score", tracked)


def _line(name: str, points: list[tuple[float, float]]) -> Line:
    return Line(name, points, points)
