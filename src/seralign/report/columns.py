"""The columns of every table of a run: each figure is described once, for the page, the terminal and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seralign.report.record import EvaluatedPolicy, RoundFigures, StageCost, TrainingLosses
from seralign.runs.layout import TRAINING_ACCURACY
from seralign.tables import ABSENT, Column, duration, interval, number, percent, share

# What accuracy is, wherever it is shown.
ACCURACY = "accuracy: share of pairs whose implicit reward margin is above zero, ties half"

HELDOUT_ACCURACY = "held-out accuracy"
GENERATED = "generated"


def score(value: float | None) -> str:
    """A score, a win rate or a share of bigrams as tables have it: three decimals."""
    return number(value, 3)


def length(value: float | None) -> str:
    """A length in tokens as tables have it."""
    return number(value, 1)


def kl(value: float | None) -> str:
    """A distance or a margin in nats as tables have it."""
    return number(value, 2)


def accuracy(policy: EvaluatedPolicy) -> str:
    """Held-out accuracy with its interval; a policy that is its own reference ranks no pair, all are ties."""
    return "ties" if policy.is_own_reference else share(policy.figures.heldout_accuracy)


# --- policies: answers to held-out prompts, and held-out pairs

POLICY = Column[EvaluatedPolicy]("policy", lambda policy: policy.title)
SCORE = Column[EvaluatedPolicy]("score", lambda policy: interval(policy.figures.score, 3))
LENGTH = Column[EvaluatedPolicy]("length", lambda policy: length(policy.figures.length), "tokens")
KL = Column[EvaluatedPolicy]("KL", lambda policy: interval(policy.figures.kl, 2), "nats")
ACCURACY_HELDOUT = Column[EvaluatedPolicy](HELDOUT_ACCURACY, accuracy)
MARGIN_HELDOUT = Column[EvaluatedPolicy]("held-out margin", lambda policy: kl(policy.figures.heldout_margin), "nats")
DISTINCT = Column[EvaluatedPolicy]("distinct-2", lambda policy: score(policy.figures.distinct_2))
REPETITION = Column[EvaluatedPolicy]("repeating", lambda policy: percent(policy.figures.repetition))
UNFINISHED = Column[EvaluatedPolicy]("unfinished", lambda policy: percent(policy.figures.unfinished))


def wins(rival: EvaluatedPolicy) -> Column[EvaluatedPolicy]:
    """Win rate against a policy."""
    return Column(f"wins against {rival.title}", lambda policy: interval(policy.figures.win_rates.get(rival.name), 3))


def all_wins(titles: dict[str, str]) -> Column[EvaluatedPolicy]:
    """Win rates against all policies; ``titles`` by name."""

    def cell(policy: EvaluatedPolicy) -> str:
        rates = policy.figures.win_rates.items()
        return ", ".join(f"{interval(rate, 3)} against {titles.get(name, name)}" for name, rate in rates) or ABSENT

    return Column("wins", cell)


def policy_columns(rivals: Sequence[EvaluatedPolicy]) -> tuple[Column[EvaluatedPolicy], ...]:
    """All columns of a policy but ``repeating``."""
    against = tuple(wins(rival) for rival in rivals)
    return (POLICY, SCORE, *against, LENGTH, KL, ACCURACY_HELDOUT, MARGIN_HELDOUT, DISTINCT, UNFINISHED)


# --- rounds: what each selected, generated and trained on


def _select(read: Callable[..., str]) -> Callable[[RoundFigures], str]:
    return lambda entry: ABSENT if entry.select is None else read(entry.select)


def _sample(read: Callable[..., str]) -> Callable[[RoundFigures], str]:
    return lambda entry: ABSENT if entry.sample is None else read(entry.sample)


def _bootstrap(read: Callable[..., str]) -> Callable[[RoundFigures], str]:
    return lambda entry: ABSENT if entry.bootstrap is None else read(entry.bootstrap)


def _train(read: Callable[..., str]) -> Callable[[RoundFigures], str]:
    return lambda entry: ABSENT if entry.train is None else read(entry.train)


def _mixed(entry: RoundFigures) -> str:
    return ABSENT if entry.compose is None or entry.train is None else percent(entry.compose.share)


def _kept(entry: RoundFigures) -> str:
    if entry.select is None:
        return ABSENT if entry.train is None or entry.bootstrap is not None else "all"
    return f"{entry.select.kept:,} of {entry.select.pairs:,}"


ROUND = Column[RoundFigures]("round", lambda entry: str(entry.index))
OFFLINE_KEPT = Column[RoundFigures]("offline kept", _kept)
KEPT_MARGIN = Column[RoundFigures]("kept margin", _select(lambda select: kl(select.margin_mean_kept)), "nats")
SAMPLED = Column[RoundFigures]("sampled", _sample(lambda sample: number(sample.responses, 0)))
MADE = Column[RoundFigures](GENERATED, _bootstrap(lambda made: number(made.pairs, 0)))
MADE_KEPT = Column[RoundFigures]("generated kept", _bootstrap(lambda made: number(made.kept, 0)))
TRAINED_OFFLINE = Column[RoundFigures]("offline used", lambda entry: number(entry.offline, 0))
TRAINED_MADE = Column[RoundFigures]("generated used", lambda entry: number(entry.generated, 0))
MADE_SHARE = Column[RoundFigures]("generated share", _mixed)
TRAINED = Column[RoundFigures]("trained on", _train(lambda train: number(train.pairs, 0)))
STEPS = Column[RoundFigures]("steps", _train(lambda train: number(train.steps, 0)))
TRAINED_ACCURACY = Column[RoundFigures](
    "training accuracy", _train(lambda train: percent(train.train.get(TRAINING_ACCURACY)))
)
ROUND_COLUMNS = (
    ROUND, OFFLINE_KEPT, KEPT_MARGIN, SAMPLED, MADE, MADE_KEPT, TRAINED_OFFLINE, TRAINED_MADE, MADE_SHARE, STEPS,
    TRAINED_ACCURACY,
)  # fmt: skip

# --- reviews: what the rounds' margins and answers look like

REVIEW_COLUMNS = (
    ROUND,
    Column[RoundFigures](
        "offline accuracy", lambda entry: ABSENT if entry.score is None else percent(entry.score.accuracy)
    ),
    Column[RoundFigures]("margin ~ length", _select(lambda select: kl(select.margin_length_correlation))),
    Column[RoundFigures]("of kept", _select(lambda select: kl(select.margin_length_correlation_kept))),
    Column[RoundFigures](f"of {GENERATED}", _bootstrap(lambda made: kl(made.margin_length_correlation))),
    Column[RoundFigures]("chosen longer", _bootstrap(lambda made: percent(made.chosen_longer_kept))),
    Column[RoundFigures]("longer by", _bootstrap(lambda made: length(made.length_difference_kept)), "tokens"),
    Column[RoundFigures]("alike, kept", _select(lambda select: percent(select.similarity_kept))),
    Column[RoundFigures]("alike, generated", _bootstrap(lambda made: percent(made.similarity_kept))),
    Column[RoundFigures]("sampled length", _sample(lambda sample: length(sample.length)), "tokens"),
    Column[RoundFigures](DISTINCT.title, _sample(lambda sample: score(sample.distinct_2))),
    Column[RoundFigures](UNFINISHED.title, _sample(lambda sample: percent(sample.unfinished))),
)

# --- trainings: losses at the logged steps and on held-out data

LOSS_COLUMNS = (
    Column[TrainingLosses]("training", lambda one: one.title),
    Column[TrainingLosses]("steps", lambda one: f"{one.steps:,}"),
    Column[TrainingLosses]("loss: first", lambda one: number(one.first, 3)),
    Column[TrainingLosses]("last", lambda one: number(one.last, 3)),
    Column[TrainingLosses]("held out: first", lambda one: number(one.heldout_first, 3)),
    Column[TrainingLosses]("lowest", lambda one: number(one.heldout_lowest, 3)),
    Column[TrainingLosses]("last", lambda one: number(one.heldout_last, 3)),
    Column[TrainingLosses]("perplexity", lambda one: number(one.perplexity, 2)),
)
LOSSES = "trainings: losses at the logged steps and on held-out data"

# --- stages

STAGE_COLUMNS = (
    Column[StageCost]("stage", lambda stage: stage.name),
    Column[StageCost]("time", lambda stage: duration(stage.seconds)),
    Column[StageCost]("peak memory so far", lambda stage: f"{stage.peak_memory_mb:,.0f} MB"),
)
