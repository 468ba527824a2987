"""Comparison of methods: each at its best setting, against the baseline at its best setting. Pure.

The unit is a world seed: every interval is a 95% t interval over seeds. For each sampling temperature, a setting is
chosen by its mean gold over seeds on validation prompts; all figures are of test prompts. The KL of the frontier is
that at temperature 1 for all temperatures of the answers: it is the distance of the policy from the supervised one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seralign.intervals import Interval, mean_interval, outcomes
from seralign.report.frontier import Point, undominated
from seralign.studies.figures import Comparison
from seralign.studies.frontier import excess, hypervolume

VALIDATION, TEST = "validation", "test"


@dataclass(frozen=True)
class Trial:
    """A setting in one world seed.

    ``kl``: nats, by split. ``gold``: rewards of the answers [P], by split and temperature; all trials of a seed have
    the same prompts. ``figures``: other figures of test prompts, by temperature.
    """

    kl: Mapping[str, float]
    gold: Mapping[tuple[str, float], np.ndarray]
    figures: Mapping[float, Mapping[str, float | None]] = field(default_factory=dict)

    def point(self, split: str, temperature: float) -> Point:
        """Its KL and mean gold."""
        return self.kl[split], float(self.gold[split, temperature].mean())


# Times the KL of baseline and ceiling beyond which headroom is marked.
MORE = 1.25

# A method's settings by label, each with its trials by seed.
Trials = Mapping[str, Mapping[int, Trial]]


def compare_world(
    methods: Mapping[str, Trials], *, supervised: str, baseline: str, ceiling: str | None, temperature: float
) -> dict[str, Comparison]:
    """Every method that has finished a seed, by name.

    Args:
        methods: Mapping from a name to settings. A method counts in the seeds that all its settings have finished.
        supervised: Name of the supervised policy.
        baseline: The method to compare with.
        ceiling: The method that is the upper bound.
        temperature: Of the answers.
    """
    seeds = {name: _whole(trials) for name, trials in methods.items()}
    known = [seed for seed in seeds[supervised] if seed in seeds[baseline]]
    if not known:
        return {}
    view = _View(methods, supervised, baseline, temperature)
    best = view.choose(baseline, known)
    top, spent = None, view.mean_kl(baseline, best, known)
    if ceiling is not None and (shared := [seed for seed in known if seed in seeds.get(ceiling, [])]):
        setting = view.choose(ceiling, shared)
        top = {seed: view.gain(ceiling, setting, best, seed) for seed in shared}
        spent = max(spent, view.mean_kl(ceiling, setting, shared))
    rows = {}
    for name in methods:
        own = [seed for seed in known if seed in seeds[name]]
        if own:
            rows[name] = _row(view, name, own, known, best, top, spent)
    return rows


def ratio_interval(gains: Sequence[float], rooms: Sequence[float]) -> Interval | None:
    """mean(gains) / mean(rooms) with the t interval of its linearisation; None where there is no room.

    With R = mean(g) / mean(r), the variance is that of (g_i - R r_i) / mean(r), as usual for a ratio estimator. A mean
    of the ratios of single seeds would depend mostly on the seed with the least room.
    """
    room = float(np.mean(rooms)) if len(rooms) else 0.0
    if room <= 0:
        return None
    ratio = float(np.mean(gains)) / room
    spread = mean_interval([(gain - ratio * own) / room for gain, own in zip(gains, rooms, strict=True)])
    if spread is None or spread.low is None or spread.high is None:
        return Interval(ratio, None, None, len(rooms))
    return Interval(ratio, ratio + spread.low - spread.mean, ratio + spread.high - spread.mean, spread.n)


@dataclass(frozen=True)
class _View:
    """All trials of a world at one temperature."""

    methods: Mapping[str, Trials]
    supervised: str
    baseline: str
    temperature: float

    def trial(self, name: str, setting: str, seed: int) -> Trial:
        return self.methods[name][setting][seed]

    def point(self, name: str, setting: str, seed: int, split: str = TEST) -> Point:
        return self.trial(name, setting, seed).point(split, self.temperature)

    def start(self, seed: int, split: str = TEST) -> Point:
        """The supervised policy, which every method starts from."""
        (setting,) = self.methods[self.supervised]
        return 0.0, self.point(self.supervised, setting, seed, split)[1]

    def choose(self, name: str, seeds: Sequence[int]) -> str:
        """The setting with the largest gold on validation prompts."""
        return self._largest(name, lambda at: np.mean([self.point(name, at, seed, VALIDATION)[1] for seed in seeds]))

    def choose_excess(self, name: str, seeds: Sequence[int], members: Sequence[str], reach: float) -> str | None:
        """The setting that is furthest above the baseline's envelope on validation prompts, up to a KL."""
        within = [at for at in self.methods[name] if self.mean_kl(name, at, seeds) <= reach]
        excess = {
            at: float(np.mean([self.excess(name, at, seed, members, VALIDATION) for seed in seeds])) for at in within
        }
        return max(excess, key=lambda at: excess[at], default=None)

    def mean_kl(self, name: str, setting: str, seeds: Sequence[int]) -> float:
        """Mean KL of a setting on test prompts."""
        return float(np.mean([self.trial(name, setting, seed).kl[TEST] for seed in seeds]))

    def members(self, name: str, seeds: Sequence[int]) -> list[str]:
        """The settings that make up a method's frontier, by their means on validation prompts."""
        settings = list(self.methods[name])
        points = [[self.point(name, at, seed, VALIDATION) for seed in seeds] for at in settings]
        return [settings[place] for place in undominated([_mean_point(each) for each in points])]

    def excess(self, name: str, setting: str, seed: int, members: Sequence[str], split: str = TEST) -> float:
        curve = [self.start(seed, split)] + [self.point(self.baseline, at, seed, split) for at in members]
        return excess(self.point(name, setting, seed, split), curve)

    def gain(self, name: str, setting: str, best: str, seed: int) -> float:
        return self.point(name, setting, seed)[1] - self.point(self.baseline, best, seed)[1]

    def win_rate(self, name: str, setting: str, best: str, seed: int) -> float:
        key = (TEST, self.temperature)
        own, other = self.trial(name, setting, seed), self.trial(self.baseline, best, seed)
        return float(outcomes(own.gold[key], other.gold[key]).mean())

    def hypervolume(self, name: str, seed: int, members: Sequence[str], limit: float) -> float:
        return hypervolume([self.point(name, at, seed) for at in members], self.start(seed)[1], limit)

    def _largest(self, name: str, value: Callable[[str], Any]) -> str:
        return max(self.methods[name], key=lambda at: float(value(at)))


def _row(
    view: _View,
    name: str,
    seeds: list[int],
    known: list[int],
    best: str,
    top: Mapping[int, float] | None,
    spent: float,
) -> Comparison:
    setting, frontier = view.choose(name, seeds), view.members(view.baseline, known)
    members = view.members(name, seeds)
    limit = float(np.mean([view.point(view.baseline, frontier[-1], seed)[0] for seed in known]))
    trials = [view.trial(name, setting, seed) for seed in seeds]

    def over(value: Callable[[int], float]) -> Interval | None:
        return mean_interval([value(seed) for seed in seeds])

    shared = [seed for seed in seeds if top is not None and seed in top]
    won = None
    if top is not None and shared:
        won = ratio_interval([view.gain(name, setting, best, seed) for seed in shared], [top[seed] for seed in shared])
    reach = max(view.mean_kl(view.baseline, at, known) for at in view.methods[view.baseline])
    own = view.mean_kl(name, setting, seeds)
    furthest = view.choose_excess(name, seeds, frontier, reach)
    best_excess = None if furthest is None else over(lambda seed: view.excess(name, furthest, seed, frontier))
    return Comparison(
        setting=setting,
        seeds=len(seeds),
        figures=_means([trial.figures.get(view.temperature, {}) for trial in trials]),
        gold=over(lambda seed: view.point(name, setting, seed)[1]),
        kl=over(lambda seed: view.point(name, setting, seed)[0]),
        gain=over(lambda seed: view.gain(name, setting, best, seed)),
        win_rate=over(lambda seed: view.win_rate(name, setting, best, seed)),
        beyond=own > reach,
        excess=None if own > reach else over(lambda seed: view.excess(name, setting, seed, frontier)),
        best_setting=furthest,
        best_excess=best_excess,
        hypervolume=over(lambda seed: view.hypervolume(name, seed, members, limit)) if limit > 0 else None,
        headroom=won,
        at_more_kl=own > MORE * spent,
    )


def _whole(trials: Trials) -> list[int]:
    """The seeds in which all settings of a method have been measured."""
    first, *others = trials.values()
    return [seed for seed in first if all(seed in other for other in others)]


def _mean_point(points: Sequence[Point]) -> Point:
    return float(np.mean([kl for kl, _ in points])), float(np.mean([gold for _, gold in points]))


def _means(figures: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Means over seeds by name; None where a seed has none."""
    means: dict[str, float | None] = {}
    for name in figures[0] if figures else ():
        values = [each.get(name) for each in figures]
        known = [value for value in values if value is not None and math.isfinite(value)]
        means[name] = float(np.mean(known)) if len(known) == len(values) else None
    return means
