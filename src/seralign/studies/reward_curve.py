"""The reward over the steps of trainings on it: of a run from its metrics, and of settings seed by seed.

Over-optimisation is seen in each seed by itself: the reward rises while a tracked score falls (Gao et al., 2210.10760).
The mean over seeds would hide it where seeds end differently.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from seralign.runs import Run
from seralign.runs.layout import METRICS, RLHF_KL, RLHF_LENGTH, RLHF_REWARD, RLHF_TRACKED, STEP, round_name, training
from seralign.studies.cells import Setting
from seralign.studies.figures import CellFigures, RewardStep, WorldFigures, mean_of
from seralign.studies.reward_names import without_folder
from seralign.studies.svg import Line, lines_svg
from seralign.tables import ABSENT, Table, number

# By seed, or by setting and seed.
Curves = Mapping[str, Sequence[RewardStep]]


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


def seed_curves(
    settings: Sequence[Setting], finished: Mapping[str, CellFigures]
) -> dict[str, dict[str, list[RewardStep]]]:
    """The curves of each setting that has one, by seed."""
    found = {}
    for setting in settings:
        done = {str(seed): finished[digest].curve for seed, digest in setting.cells.items() if digest in finished}
        if curves := {seed: curve for seed, curve in done.items() if curve}:
            found[f"{setting.method}, {setting.label}"] = curves
    return found


def mean_curve(curves: Curves) -> list[RewardStep]:
    """The mean over seeds, as far as all have steps: seeds may differ in the number of prompts, and so in steps."""
    steps = [mean_of(list(lines)) for lines in zip(*curves.values(), strict=False)]
    return [step for step in steps if step is not None]


def curve_table(figures: WorldFigures, world: str) -> Table | None:
    """The rewards of each setting and seed at the first and last line, and of each tracked score the line with the
    most."""
    rows = []
    for name, seed, curve in (
        (name, seed, curve) for name, own in figures.curves.items() for seed, curve in own.items()
    ):
        first, last = curve[0], curve[-1]
        own = (
            *(name, seed),
            *(number(first.reward, 3), number(last.reward, 3), number(last.kl, 1), number(last.length, 1)),
        )
        for key in last.tracked:
            best = max(curve, key=lambda line, key=key: line.tracked[key])
            scores = (number(line.tracked[key], 3) for line in (first, best, last))
            rows.append((*own, key, *scores, number(best.step, 0)))
        if not last.tracked:
            rows.append((*own, *[ABSENT] * 5))
    if not rows:
        return None
    columns = (
        *("setting", "seed", "reward: first", "last", "KL: last", "tokens"),
        *("tracked", "first", "most", "last", "at step"),
    )
    caption = f"world {world}, trainings on a reward: the reward and tracked scores of sampled responses"
    return Table(caption, columns, tuple(rows))


def curve_plots(figures: WorldFigures, world: str) -> Iterator[tuple[str, str]]:
    """Plots of the reward and of each tracked score over the steps and over the root of KL, by file name.

    Over the steps, the mean over seeds is drawn, and each seed faintly; over KL each seed.
    """
    if not figures.curves:
        return
    keys = dict.fromkeys(key for own in figures.curves.values() for curve in own.values() for key in curve[0].tracked)
    scores: dict[str, tuple[str, Callable[[RewardStep], float | None]]] = {
        "reward": ("reward", lambda line: line.reward)
    }
    for count, key in enumerate(keys, 1):
        scores[f"tracked{'' if count == 1 else f'-{count}'}"] = (key, lambda line, key=key: line.tracked.get(key))
    for file, (key, read) in scores.items():
        title = f"world {world}: {key}" if file == "reward" else f"world {world}: tracked score {key}"
        lines = list(_over_steps(figures, read))
        yield f"{world}-{file}.svg", lines_svg(f"{title} over the steps", "step", key, lines)
        if lines := list(_over_kl(figures, read)):
            named = f"{title} over the root of KL"
            yield f"{world}-{file}-kl.svg", lines_svg(named, "root of KL to the reference, nats", key, lines)


def _over_steps(figures: WorldFigures, read: Callable[[RewardStep], float | None]) -> Iterator[Line]:
    for name, curves in figures.curves.items():
        points = [
            [(line.step, value) for line in curve if (value := read(line)) is not None] for curve in curves.values()
        ]
        mean = [(line.step, value) for line in mean_curve(curves) if (value := read(line)) is not None]
        if mean:
            yield Line(name, mean, mean, faint=points if len(points) > 1 else ())


def _over_kl(figures: WorldFigures, read: Callable[[RewardStep], float | None]) -> Iterator[Line]:
    """Estimates of a small KL may be below 0."""
    for name, curves in figures.curves.items():
        paths = [
            [
                (math.sqrt(max(line.kl, 0.0)), value)
                for line in curve
                if line.kl is not None and (value := read(line)) is not None
            ]
            for curve in curves.values()
        ]
        if dots := [point for path in paths for point in path]:
            yield Line(name, dots, (), faint=paths)
