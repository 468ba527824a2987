"""The configuration of a run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from seralign.checks import require
from seralign.config.bootstrap import BootstrapConfig
from seralign.config.data import DataConfig, WorldConfig
from seralign.config.policy import PolicyConfig, ReferenceConfig
from seralign.config.reward_run import check_reward_run
from seralign.config.rlhf import RlhfConfig, check_rlhf_run
from seralign.config.rounds import (
    CrossfitConfig,
    EvaluationConfig,
    ScoringConfig,
    SelectionConfig,
)
from seralign.config.sampling import SamplingConfig
from seralign.config.self_play import check_self_play
from seralign.config.stop import StopConfig
from seralign.config.training import TrainingConfig
from seralign.errors import ConfigError
from seralign.objectives import DPO, ObjectiveSum, one
from seralign.objectives.base import hard_labels, least_responses


@dataclass(frozen=True)
class RunConfig:
    """The configuration of a run.

    Args:
        out: The folder of the run.
        seed: Seed of everything random in the run.
        rounds: Number of rounds. The first trains on all pairs; each later round scores, selects, samples and trains.
        policy: The model that is trained.
        reference: The policy relative to which implicit rewards are measured.
        data: Pairs, prompts, demonstrations.
        sft: Train a supervised policy first, with these settings. It becomes the starting policy and the reference.
        objective: The loss of the rounds: one objective, or a list of objectives that are added.
        rlhf: Reinforcement learning from a reward, in place of the rounds of pairs; null for none.
        crossfit: A review of the data before round 1, by copies of the policy; null for none.
        training: Training of each round.
        scoring: Log-probabilities of the data, and the reward ensemble.
        selection: Which offline pairs a round keeps.
        bootstrap: Pairs made of sampled responses; null for none.
        evaluation: What is measured after each round.
        stop: When the rounds end early.
        world: A world with a known gold reward, in place of files.
    """

    out: str
    seed: int = 0
    rounds: int = 3
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    data: DataConfig = field(default_factory=DataConfig)
    sft: TrainingConfig | None = None
    objective: ObjectiveSum = field(default_factory=lambda: one("dpo", DPO()))
    rlhf: RlhfConfig | None = None
    crossfit: CrossfitConfig | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    bootstrap: BootstrapConfig | None = field(default_factory=BootstrapConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    world: WorldConfig | None = None

    def __post_init__(self) -> None:
        require(bool(self.out), "out", "the path of the run's folder", self.out)
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        require(self.rounds >= 1, "rounds", "at least 1", self.rounds)
        if self.world is None:
            if self.policy.model is None:
                raise ConfigError("policy.model is missing: a folder or the name of a model on the hub (or set world)")
            self._check_data()
        if self.rlhf is not None:
            check_rlhf_run(self)
        if not self.objective.compares and self.rounds > 1:
            name = self.objective.name
            raise ConfigError(f"objective.name: {name} has no margin to select pairs by; set rounds: 1 or another name")
        if not self.objective.compares and self.crossfit is not None:
            raise ConfigError(f"crossfit: {self.objective.name} has no margin to review pairs by; remove crossfit")
        self._check_joined()
        self._check_single()
        self._check_made()
        self._check_moving()
        if self.generates_all:
            check_self_play(self)
        if not self.objective.samples:
            check_reward_run(self)
        if self.rounds == 1 and not self.generates_all and self.scoring.reward != "implicit":
            raise ConfigError(
                f"scoring.reward: {self.scoring.reward} ranks pairs and answers in rounds after the first, and it is "
                "the only one; remove it, or set rounds"
            )
        if self.rounds == 1 and self.scoring.min_accuracy is not None:
            raise ConfigError(
                "scoring.min_accuracy: it is of the margins in rounds after the first, and it is the only one; remove "
                "it, or set rounds"
            )
        hard = [term.name for term in self.objective.terms if hard_labels(term.objective)]
        if hard and self.crossfit is not None:
            raise ConfigError(f"crossfit: it makes labels soft, and {hard[0]} has no form for those; remove crossfit")
        if self.stop.metric == "win_rate" and self.evaluation.prompts == 0:
            raise ConfigError("stop.metric: win_rate needs answers to compare; set evaluation.prompts above 0")
        if self.data.demonstrations is not None and not self.supervised:
            raise ConfigError(
                "data.demonstrations are for sft, AIHF, SPIN and SAPO: set the section sft, objective.name: sft or "
                "aihf, or bootstrap.method: spin or sapo"
            )
        if self.policy.dtype == "float16" and self.policy.lora is None and self.policy.adapter is None:
            raise ConfigError(
                "policy.dtype: float16 weights cannot be trained, because small updates are lost in them; set float32 "
                "(and training.precision: float16 for mixed precision on a GPU), or train an adapter (policy.lora)"
            )
        precisions = {"training": self.training.precision, "sft": self.sft.precision if self.sft else "float32"}
        for section, precision in precisions.items():
            if precision == "float16" and self.policy.dtype != "float32":
                raise ConfigError(
                    f"{section}.precision: float16 scales gradients of float32 weights; policy.dtype is "
                    f"{self.policy.dtype}. Set policy.dtype: float32, or {section}.precision: bfloat16"
                )

    def _check_data(self) -> None:
        """Refuse a run without a world that has no data to train on."""
        data, bootstrap = self.data, self.bootstrap
        if data.pairs is not None or self.demonstrations_alone or self.rlhf is not None:
            return
        if not self.generates_all or bootstrap is None:
            raise ConfigError(
                "data.pairs is missing: a file or the name of a dataset on the hub (or set world; objective.name: sft "
                "also trains on data.demonstrations alone, and docs/self_play.md has methods that need no pairs)"
            )
        needed = "demonstrations" if bootstrap.demonstrated else "prompts"
        if getattr(data, needed) is None:
            raise ConfigError(
                f"data.{needed} is missing: bootstrap.method: {bootstrap.method} makes its pairs of them; give a file "
                "or the name of a dataset on the hub (or data.pairs, or set world)"
            )

    def _check_joined(self) -> None:
        """Refuse to join demonstrations with pairs if there are none."""
        supplies = self.world is not None and self.world.own is None
        if self.objective.joins_demonstrations and self.data.demonstrations is None and not supplies:
            raise ConfigError(
                f"data.demonstrations is missing: objective.name: {self.objective.name} trains on demonstrations "
                "beside pairs; give a file or the name of a dataset on the hub (or objective.name: dpo for pairs alone)"
            )

    def _check_single(self) -> None:
        """Refuse to review labels of single responses."""
        name = next((term.name for term in self.objective.terms if term.objective.forms == {"label"}), None)
        for key, reviews in (("rounds", self.rounds > 1), ("crossfit", self.crossfit is not None)):
            if reviews and name is not None:
                raise ConfigError(
                    f"{key}: {name} reads labels of single responses, so there is no margin to select by; set rounds: "
                    "1 and no crossfit, or give an objective of pairs and make pairs with data.convert.label: pairs"
                )

    def _check_made(self) -> None:
        """Refuse to generate preferences that the objective does not take, or cannot be made."""
        if self.bootstrap is None or not self.bootstraps:
            return
        made = self.bootstrap.form
        for term in self.objective.terms:
            if made in term.objective.forms:
                continue
            if self.bootstrap.demonstrated:
                raise ConfigError(
                    f"bootstrap.method: {self.bootstrap.method} makes pairs, and {term.name} takes "
                    f"{' and '.join(sorted(term.objective.forms))}; set another objective"
                )
            other = {"pair": "ranking", "ranking": "best_worst"}[made]
            fits = {"ranking": "ranking", "best_worst": "pair"}[other] in term.objective.forms
            set_it = f"set bootstrap.preferences: {other}, or " if fits else "set "
            raise ConfigError(
                f"bootstrap.preferences: {self.bootstrap.preferences} makes the form {made}, and {term.name} takes "
                f"{' and '.join(sorted(term.objective.forms))}; {set_it}bootstrap: null"
            )
        if made == "ranking" and self.scoring.length_correction == "matched":
            raise ConfigError(
                "scoring.length_correction: matched chooses two responses of like length, and bootstrap.preferences: "
                "ranking ranks all of them; set within_prompt, balanced, offline or none"
            )
        query = self.bootstrap.query
        if query is not None and query.strategy == "disagreement" and len(self.scoring.reward_models) < 2:
            raise ConfigError(
                "bootstrap.query.strategy: disagreement is that of reward models; give two or more "
                "scoring.reward_models (and scoring.reward: model or mixed), or another strategy"
            )
        hard = [term.name for term in self.objective.terms if hard_labels(term.objective)]
        self.bootstrap.check_soft_labels(self.scoring.reward, hard)
        least = max(least_responses(term.objective) for term in self.objective.terms)
        if self.bootstrap.samples < least and not self.bootstrap.demonstrated:
            raise ConfigError(
                f"bootstrap.samples: {self.bootstrap.samples} responses of a prompt are too few for "
                f"{self.objective.name}, which needs {least}; give {least} or more"
            )

    def _check_moving(self) -> None:
        """Refuse a reference that moves where there is none, or where a round does not begin at it."""
        sampled = None if self.bootstrap is None else self.bootstrap.sample_from
        if self.reference.update == "average" and sampled != "average":
            raise ConfigError(
                "reference.update: average is the average that responses are sampled from; set bootstrap.sample_from: "
                "average, or reference.update: each_round or never"
            )
        alike = self.policy.lora is None or self.sft is not None or self.policy.start == "previous"
        if sampled == "average" and not alike:
            raise ConfigError(
                "policy.start: initial: with policy.lora, each round trains a new adapter, and bootstrap.sample_from: "
                "average averages adapters that begin alike; set policy.start: previous, or remove policy.lora"
            )
        if self.reference.sync_steps is None:
            return
        if not self.objective.uses_reference:
            raise ConfigError(f"reference.sync_steps: {self.objective.name} has no reference to move; remove it")
        if self.rounds > 1 and self.reference.update != "each_round":
            raise ConfigError(
                "reference.sync_steps: each round begins with the policy as the reference; "
                "set reference.update: each_round, or rounds: 1"
            )
        if self.rounds > 1 and self.policy.start == "initial":
            raise ConfigError(
                "reference.sync_steps: each round begins with the policy as the reference; "
                "set policy.start: previous, or rounds: 1"
            )

    @property
    def demonstrations_alone(self) -> bool:
        """Whether a supervised run has demonstrations and no pairs; what is held out are demonstrations then."""
        return self.data.pairs is None and self.data.demonstrations is not None and not self.objective.compares

    @property
    def has_pairs(self) -> bool:
        """Whether there are preferences: a supervised run can do without, and so can one that maximises a reward."""
        if self.generates_all:
            return True
        return self.data.pairs is not None or (self.world is not None and not self.demonstrations_alone)

    @property
    def supervised(self) -> bool:
        """Whether a training of the run uses demonstrations."""
        alone = self.sft is not None or not self.objective.compares
        return alone or self.objective.joins_demonstrations or self.demonstrated

    @property
    def demonstrated(self) -> bool:
        """Whether rounds make pairs of demonstrations and sampled responses."""
        return self.bootstrap is not None and self.bootstrap.demonstrated

    @property
    def generates_all(self) -> bool:
        """Whether every round, from the first on, trains on newly made pairs alone."""
        return self.bootstrap is not None and self.bootstrap.method != "sera"

    @property
    def bootstraps(self) -> bool:
        """Whether a round makes pairs of sampled responses."""
        return self.bootstrap is not None and (self.rounds > 1 or self.generates_all)

    def resolved(self) -> RunConfig:
        """The same configuration, with each null replaced by the value that it means."""
        data = self.data
        bootstrap, world = self.bootstrap, self.world
        if bootstrap is not None:
            bootstrap = replace(bootstrap, sampling=_limited(bootstrap.sampling, bootstrap.sampling.limit))
        if world is not None and world.own is not None:
            own = replace(world.own, sampling=_limited(world.own.sampling, world.own.sampling.limit))
            world = replace(world, own=own)
        answers = _limited(self.evaluation.sampling, self.answer_tokens)
        return replace(
            self,
            data=replace(data, max_prompt_length=data.prompt_limit),
            training=self.training.resolved(),
            sft=None if self.sft is None else self.sft.resolved(),
            bootstrap=bootstrap,
            evaluation=replace(self.evaluation, sampling=answers),
            world=world,
            stop=replace(self.stop, min_gain=self.stop.least_gain),
            rlhf=None if self.rlhf is None else self.rlhf.resolved(),
        )

    @property
    def answer_tokens(self) -> int:
        """Maximum number of tokens of an answer: that of the evaluation, or else of ``rlhf`` or bootstrapping."""
        if self.evaluation.sampling.max_new_tokens is not None:
            return self.evaluation.sampling.limit
        if self.rlhf is not None:
            return self.rlhf.limit
        return self.evaluation.sampling.limit if self.bootstrap is None else self.bootstrap.sampling.limit


def _limited(sampling: SamplingConfig, tokens: int) -> SamplingConfig:
    return replace(sampling, max_new_tokens=tokens)
