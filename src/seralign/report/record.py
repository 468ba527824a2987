"""The report's data of a run: dataclasses with the figures of its stages by round and by policy."""

from __future__ import annotations

from dataclasses import dataclass

from seralign.config.rlhf import BETAS
from seralign.runs.data_figures import DataFigures
from seralign.runs.figures import (
    BaseFigures,
    BasePolicy,
    BootstrapFigures,
    ComposeFigures,
    CrossfitFigures,
    DecideFigures,
    EvaluateFigures,
    NamedPolicy,
    ResultFigures,
    SampleFigures,
    ScoreFigures,
    SelectFigures,
    TokensFigures,
    TrainFigures,
)
from seralign.runs.layout import BASELINE, INITIAL, round_of

# The policy that the objective alone trained, without the rounds, is called "dpo alone, as many steps".
ALONE = "alone, as many steps"


@dataclass(frozen=True)
class EvaluatedPolicy:
    """A policy that was evaluated. ``role`` is ``initial``, ``baseline`` or the folder of a round, such as ``round-2``;
    the win rates of ``figures`` are against all policies of the run."""

    role: str
    figures: EvaluateFigures

    @property
    def name(self) -> str:
        """Its name in the run: ``sft``, ``round 2``, ``dpo``."""
        return self.figures.name

    @property
    def title(self) -> str:
        """Its name for readers; the baseline's describes it."""
        return f"{self.name} {ALONE}" if self.role == BASELINE else self.name

    @property
    def short(self) -> str:
        """A short name for small charts: ``start``, ``1``, ``2``, ..., and ``alone`` for the baseline."""
        return {INITIAL: "start", BASELINE: "alone"}.get(self.role) or str(self.round)

    @property
    def round(self) -> int | None:
        """Its round; None for the starting policy and the baseline."""
        return round_of(self.role)

    @property
    def is_own_reference(self) -> bool:
        """Whether all its margins are 0, so that it ranks no pairs and its accuracy means nothing."""
        rate = self.figures.heldout_accuracy
        return rate is not None and rate.mean == 0.5 and self.figures.heldout_margin == 0


@dataclass(frozen=True)
class RoundFigures:
    """The figures of a round's stages; None for a stage that does not exist."""

    index: int
    score: ScoreFigures | None = None
    select: SelectFigures | None = None
    sample: SampleFigures | None = None
    bootstrap: BootstrapFigures | None = None
    compose: ComposeFigures | None = None
    train: TrainFigures | None = None
    evaluate: EvaluateFigures | None = None
    tokens: TokensFigures | None = None
    decide: DecideFigures | None = None

    @property
    def name(self) -> str:
        """``round 2``."""
        return f"round {self.index}"

    @property
    def offline(self) -> int | None:
        """Offline pairs that it trained on; all of its offline pairs if nothing was mixed. None before its training."""
        if self.train is None:
            return None
        return self.train.pairs if self.compose is None else self.compose.offline

    @property
    def generated(self) -> int | None:
        """Generated pairs that it trained on; None before its training."""
        if self.train is None:
            return None
        return 0 if self.compose is None else self.compose.generated


@dataclass(frozen=True)
class TrainingLosses:
    """The losses of a training at its logged steps; None where there is none.

    ``name`` is ``sft``, ``round 1``, ..., ``baseline``; ``title`` is for readers. ``perplexity`` is that of the last
    held-out loss, if the loss is that of SFT.
    """

    name: str
    title: str
    steps: int
    first: float | None
    last: float | None
    heldout_first: float | None
    heldout_lowest: float | None
    heldout_last: float | None
    perplexity: float | None


@dataclass(frozen=True)
class StageCost:
    """Seconds of the process that finished a stage, and the peak memory of that process so far (MB)."""

    name: str
    seconds: float
    peak_memory_mb: float


@dataclass(frozen=True)
class RunWarning:
    """A figure beyond its limit.

    ``kind`` names the rule, ``where`` the round. ``text`` describes the figure, and ``advice`` what to do, with
    configuration keys.
    """

    kind: str
    where: str
    value: float
    limit: float
    text: str
    advice: str


@dataclass(frozen=True)
class RunFigures:
    """All figures of a run, finished or not; None for a stage that does not exist.

    Args:
        run: The run's folder.
        objective: Its name, such as ``dpo``; or the method that maximises a reward, such as ``grpo``.
        method: ``bootstrap.method``; ``sera`` without the section.
        data: Of the data.
        crossfit: Of the review before round 1.
        base: Of merging an adapter into the model.
        model: The model that the run was given.
        initial: The policy that the rounds start from.
        reference: The reference.
        policies: The evaluated policies: starting policy, baseline, rounds.
        rounds: The rounds that have finished a stage.
        stopped: Why the rounds ended, or that they continue.
        result: Of the result.
        trainings: Losses of each training.
        stages: Time and memory of each stage, in the order in which they finished.
        notes: Notes on figures that the run does not have.
        warnings: Figures beyond their limits.
    """

    run: str
    objective: str
    method: str = "sera"
    data: DataFigures | None = None
    crossfit: CrossfitFigures | None = None
    base: BaseFigures | None = None
    model: BasePolicy | None = None
    initial: NamedPolicy | None = None
    reference: NamedPolicy | None = None
    policies: tuple[EvaluatedPolicy, ...] = ()
    rounds: tuple[RoundFigures, ...] = ()
    stopped: str | None = None
    result: ResultFigures | None = None
    trainings: tuple[TrainingLosses, ...] = ()
    stages: tuple[StageCost, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[RunWarning, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the run has a result."""
        return self.result is not None

    @property
    def supervised(self) -> bool:
        """Whether the objective is that of supervised fine-tuning, which ranks no pairs."""
        return self.objective == "sft"

    @property
    def generates_all(self) -> bool:
        """Whether every round trains on newly made pairs alone (``bootstrap.method``)."""
        return self.method != "sera"

    @property
    def rewarded(self) -> bool:
        """Whether the policy is trained on a reward of its own responses, and on no pairs."""
        return self.objective in BETAS

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def peak_memory_mb(self) -> float:
        """Of all stages; 0 before the first."""
        return max((stage.peak_memory_mb for stage in self.stages), default=0.0)

    @property
    def start(self) -> EvaluatedPolicy | None:
        """The starting policy, if it was evaluated."""
        return self.policy(INITIAL)

    @property
    def rivals(self) -> tuple[EvaluatedPolicy, ...]:
        """The starting policy and the baseline: the policies that all others are compared with."""
        return tuple(policy for policy in self.policies if policy.round is None)

    @property
    def evaluated_rounds(self) -> tuple[EvaluatedPolicy, ...]:
        """The policies of the rounds."""
        return tuple(policy for policy in self.policies if policy.round is not None)

    @property
    def best(self) -> EvaluatedPolicy | None:
        """The policy that is the result; None before there is one."""
        name = None if self.result is None else self.result.policy
        return next((policy for policy in self.policies if policy.name == name), None)

    def policy(self, role: str) -> EvaluatedPolicy | None:
        """The policy of a role."""
        return next((policy for policy in self.policies if policy.role == role), None)
