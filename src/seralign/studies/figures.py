"""The figures of a study: a frozen dataclass each. Those of a cell are kept as JSON in ``figures.json``.

KL and margins are in nats, lengths in tokens, gold rewards in the unit of the world. A figure is None where it is not
defined. Dictionaries by temperature have keys such as ``1.0``; the first temperature is 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

from seralign.evaluation.label_quality import GeneratedFigures, MarginFigures, SelectionFigures
from seralign.intervals import Interval

Record = TypeVar("Record")


@dataclass(frozen=True)
class AnswerFigures:
    """Of a policy's answers at one temperature: mean gold reward and length, share of different bigrams, shares of
    answers in which a 4-gram occurs twice and of those without an end."""

    gold: float
    length: float
    distinct_2: float | None
    repetition: float | None
    unfinished: float


@dataclass(frozen=True)
class SplitFigures:
    """Of a policy on the prompts of a split: KL to the supervised policy, and its answers by temperature."""

    kl: float
    answers: dict[str, AnswerFigures]


@dataclass(frozen=True)
class RankingFigures:
    """How a policy's implicit reward orders the pairs of the test prompts: share of margins above zero, ties half, the
    mean margin, and how the margins relate to the truth."""

    accuracy: float | None
    margin: float
    truth: MarginFigures


@dataclass(frozen=True)
class PolicyFigures:
    """Of a policy; ``prompts`` names the prompts of each split, by digest."""

    validation: SplitFigures
    test: SplitFigures
    ranking: RankingFigures
    prompts: dict[str, str]


@dataclass(frozen=True)
class RoundLabels:
    """Right and wrong labels in a round: of the offline pairs before and after selection, how their margins relate to
    the truth, and of the generated pairs that the round trained on, if it made any."""

    selection: SelectionFigures
    margins: MarginFigures
    generated: GeneratedFigures | None


@dataclass(frozen=True)
class RewardStep:
    """Of a training on a reward, means over the responses since the line before: the reward that is maximised, the
    scores beside it by name, the KL to the reference, and the length."""

    step: int
    reward: float
    tracked: dict[str, float]
    kl: float | None
    length: float


@dataclass(frozen=True)
class CostFigures:
    """What a run cost, without supervised training, reward models and measuring: ``seconds`` of processor time, and
    tokens of responses that were ``sampled`` and that an update was computed of (``trained``, None where the metrics
    do not say), each counted as often as it was."""

    seconds: float
    sampled: float
    trained: float | None


@dataclass(frozen=True)
class CellFigures:
    """Of a cell: policies by ``Ask.key``, rounds after the first by name, seconds of the run's stages by name, and
    seconds of the run and of measuring; the ``curve`` of a training on a reward, empty for others; and what the run
    cost, None for one that was resumed."""

    policies: dict[str, PolicyFigures]
    rounds: dict[str, RoundLabels]
    stages: dict[str, float]
    seconds: dict[str, float]
    curve: list[RewardStep] = field(default_factory=list)
    cost: CostFigures | None = None


@dataclass(frozen=True)
class RoundFigures:
    """Of a round, in one seed or the mean over seeds: the policy on test prompts, and its labels after round 1."""

    test: SplitFigures
    ranking: RankingFigures
    labels: RoundLabels | None


@dataclass(frozen=True)
class Comparison:
    """A method at its best setting, over seeds.

    Args:
        setting: The one with the most gold on validation prompts.
        seeds: Number of seeds.
        figures: Means over seeds, by name.
        gold: Gold reward.
        kl: KL to the supervised policy.
        gain: Gold less that of the baseline.
        win_rate: Against the baseline at its best setting, on the same prompts, ties half.
        beyond: Whether its KL is above the largest of all settings of the baseline. Nothing is known of the baseline
            there, so there is no excess.
        excess: Gold above the baseline's envelope at the same KL.
        best_setting: The one with the largest excess on validation prompts, of those that are not beyond; None where
            all are.
        best_excess: The excess of ``best_setting``.
        hypervolume: Mean gold above the supervised policy within a budget of KL.
        headroom: Share won of what the ceiling has above the baseline.
        at_more_kl: Whether its KL is more than 1.25 times that of the baseline and that of the ceiling, each at its
            best setting: then its headroom is bought with KL.
    """

    setting: str
    seeds: int
    figures: dict[str, float | None]
    gold: Interval | None
    kl: Interval | None
    gain: Interval | None
    win_rate: Interval | None
    beyond: bool
    excess: Interval | None
    best_setting: str | None
    best_excess: Interval | None
    hypervolume: Interval | None
    headroom: Interval | None
    at_more_kl: bool


@dataclass(frozen=True)
class LaterRound:
    """A round after the first, against round 2 of the same seed, over seeds.

    Args:
        gain: Gold less that of round 2, at the first temperature.
        gain_sharp: The same at the last temperature.
        gold_right: Share of right ones among the generated pairs that it trained on.
        gold_wrong: Share of wrong ones.
        longer: By what share its answers are longer than those of the baseline at the same KL.
    """

    gain: Interval | None
    gain_sharp: Interval | None
    gold_right: Interval | None
    gold_wrong: Interval | None
    longer: Interval | None


@dataclass(frozen=True)
class RuleFigures:
    """A stopping rule, means over runs: the round whose policy it gives, the gold of that policy and the gold that it
    lost to the run's best round, by temperature."""

    round: float | None
    gold: dict[str, float]
    lost: dict[str, float]


@dataclass(frozen=True)
class BudgetFigures:
    """Rounds after the first with a KL from ``low`` to ``high`` (None: no bound): their number, the share that did
    harm, and the mean gain of gold over the round before."""

    low: float
    high: float | None
    rounds: int
    harmed: float | None
    gain: float | None


@dataclass(frozen=True)
class StoppingFigures:
    """Stopping rules by name, and rounds by KL, over ``runs`` runs of three rounds or more."""

    runs: int
    rules: dict[str, RuleFigures]
    budgets: tuple[BudgetFigures, ...]


@dataclass(frozen=True)
class SettingFigures:
    """Of a setting: by seed, the KL, the gold reward and the share of unfinished answers at temperature 1 on test
    prompts; and what it cost, the mean over the seeds where that is known."""

    kl: dict[str, float]
    gold: dict[str, float]
    unfinished: dict[str, float]
    cost: CostFigures | None


@dataclass(frozen=True)
class WorldFigures:
    """Of a world.

    Args:
        temperatures: By temperature and method.
        points: By temperature, method and setting: mean KL and gold on test prompts.
        rounds: By method with several rounds and name of the round, at the values that were chosen at temperature 1;
            None where a seed has no figures.
        later_rounds: By the same, for the rounds after the first.
        settings: By method and setting: each seed by itself, and the cost.
        curves: Of trainings on a reward, by method and setting, and by seed.
    """

    temperatures: dict[str, dict[str, Comparison]]
    points: dict[str, dict[str, dict[str, tuple[float, float]]]]
    rounds: dict[str, dict[str, RoundFigures | None]]
    later_rounds: dict[str, dict[str, LaterRound]]
    settings: dict[str, dict[str, SettingFigures]] = field(default_factory=dict)
    curves: dict[str, dict[str, list[RewardStep]]] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyFigures:
    """Of a study, finished or not: its folder, cells and finished ones, seconds of work, and what was found."""

    study: str
    cells: int
    finished: int
    seconds: float
    baseline: str
    ceiling: str | None
    seeds: tuple[int, ...]
    stopping: StoppingFigures
    worlds: dict[str, WorldFigures]


def mean_of(records: Sequence[Record]) -> Record | None:
    """The mean of figures of one kind, number by number; None where one of them is None, or where there are none."""
    if not records or any(record is None for record in records):
        return None
    first: Any = records[0]
    if is_dataclass(first):
        kind: Any = type(first)
        return kind(**{name: mean_of(values) for name, values in _columns(records, [f.name for f in fields(first)])})
    if isinstance(first, Mapping):
        found: Any = {name: mean_of([record[name] for record in records]) for name in first}  # pyright: ignore
        return found
    return sum(records) / len(records)  # pyright: ignore


def _columns(records: Sequence[Any], names: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    for name in names:
        yield name, [getattr(record, name) for record in records]
