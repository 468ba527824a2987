"""The reward over the steps of trainings on it: of a run from its metrics, and of settings over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from seralign.runs import Run
from seralign.runs.layout import METRICS, RLHF_KL, RLHF_LENGTH, RLHF_REWARD, RLHF_TRACKED, STEP, round_name, training
from seralign.studies.cells import Setting
from seralign.studies.figures import CellFigures, RewardStep, WorldFigures, mean_of
from seralign.studies.reward_names import without_folder
from seralign.studies.svg import Line, lines_svg
from seralign.tables import ABSENT, Table, number


def reward_curve(run: Run, reward_model: str | None) -> list[RewardStep]:
    """The lines of metrics of the training of a run; ``reward_model`` is the folder of that of the study."""
    text = run.path(training(round_name(1)), METRICS).read_text(encoding="utf-8")
    return [
        RewardStep(
            step=line[STEP],
            reward=line[RLHF_REWARD],
            tracked={
                without_folder(key.removeprefix(RLHF_TRACKED), str(reward_model)): value
                for key, value in line.items()
                if key.startswith(RLHF_TRACKED)
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
            # Seeds may differ in the number of prompts, and so in that of steps.
            steps = [mean_of(list(lines)) for lines in zip(*curves, strict=False)]
            found[f"{setting.method}, {setting.label}"] = [step for step in steps if step is not None]
    return found


def curve_table(figures: WorldFigures, world: str) -> Table | None:
    """The rewards of each setting at its first and last line, and for each tracked score the line with the most."""
    rows = []
    for name, curve in figures.curves.items():
        first, last = curve[0], curve[-1]
        own = (name, number(first.reward, 3), number(last.reward, 3), number(last.kl, 1), number(last.length, 1))
        for key in last.tracked:
            best = max(curve, key=lambda line, key=key: line.tracked[key])
            scores = (number(line.tracked[key], 3) for line in (first, best, last))
            rows.append((*own, key, *scores, number(best.step, 0)))
        if not last.tracked:
            rows.append((*own, *[ABSENT] * 5))
    if not rows:
        return None
    columns = ("setting", "reward: first", "last", "KL: last", "tokens", "tracked", "first", "most", "last", "at step")
    caption = f"world {world}, trainings on a reward: the reward and tracked scores of sampled responses, over seeds"
    return Table(caption, columns, tuple(rows))


def curve_plots(figures: WorldFigures, world: str) -> Iterator[tuple[str, str]]:
    """Plots of the reward and of each tracked score over the steps, by file name."""
    curves = figures.curves
    if not curves:
        return
    lines = [_line(name, [(line.step, line.reward) for line in curve]) for name, curve in curves.items()]
    yield f"{world}-reward.svg", lines_svg(f"world {world}: reward over the steps", "step", "reward", lines)
    tracked = dict.fromkeys(key for curve in curves.values() for key in curve[0].tracked)
    for count, key in enumerate(tracked, 1):
        own = {name: curve for name, curve in curves.items() if key in curve[0].tracked}
        lines = [_line(name, [(line.step, line.tracked[key]) for line in curve]) for name, curve in own.items()]
        title = f"world {world}: tracked score {key} over the steps"
        yield f"{world}-tracked{'' if count == 1 else f'-{count}'}.svg", lines_svg(title, "step", key, lines)


def _line(name: str, points: list[tuple[float, float]]) -> Line:
    return Line(name, points, points)
