"""Reinforcement learning from a reward, in place of the rounds of pairs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from seralign.checks import fraction, positive, require
from seralign.config.bootstrap import BootstrapConfig
from seralign.config.rounds import SelectionConfig
from seralign.config.sampling import MAX_NEW_TOKENS
from seralign.config.secrets import refuse_secrets
from seralign.errors import ConfigError
from seralign.objectives import DPO, one

if TYPE_CHECKING:
    from seralign.config.run import RunConfig

Method = Literal["grpo", "rloo", "ppo", "online_dpo", "xpo", "nash_md"]
# The KL coefficient and the number of responses a prompt, where the configuration does not give them.
BETAS: dict[Method, float] = {
    "grpo": 0.04, "rloo": 0.05, "ppo": 0.05, "online_dpo": 0.1, "xpo": 0.1, "nash_md": 0.1
}  # fmt: skip
SAMPLES: dict[Method, int] = {"grpo": 8, "rloo": 4, "ppo": 1, "online_dpo": 2, "xpo": 1, "nash_md": 1}
GROUPED = ("grpo", "rloo")
# Methods that get the rewards of single responses, and not which responses have the same prompt.
SINGLE = ("ppo", "xpo", "nash_md")
# The forms of ``reward`` besides ``reward_model:FOLDER`` and ``module:function``.
SCORER, JUDGE = "scorer", "judge"


@dataclass(frozen=True)
class RlhfConfig:
    """Reinforcement learning from a reward, by a trainer of TRL (docs/rlhf.md).

    Optimizer, schedule, steps and checkpoints are those of ``training``; its ``batch_size`` and ``epochs`` count
    prompts here.

    Args:
        method: ``grpo``, ``rloo`` and ``online_dpo`` are in TRL 1.16. ``ppo``, ``xpo`` and ``nash_md`` need TRL 1.12.
        reward: What is maximised: ``reward_model:FOLDER``, the ``module:function`` of a scorer, ``scorer`` for that of
            the run (``evaluation.scorer``, or a world's gold reward), or ``judge`` for ``evaluation.judge``: the mean
            probability that a response is better than the others to its prompt.
        beta: Coefficient of the KL divergence to the reference. At 0, there is no reference. Default: 0.04 for
            ``grpo``, 0.05 for ``rloo`` and ``ppo``, 0.1 for the others.
        samples: Responses per prompt in each step, for ``grpo`` (default 8) and ``rloo`` (default 4). The other
            methods have a number of their own.
        temperature: Sampling temperature.
        top_p: Nucleus sampling: the smallest set of tokens with at least this probability.
        max_new_tokens: Maximum number of tokens of a response. Default: 256.
        prompts_per_pass: Prompts whose responses are computed in one forward and backward pass, a divisor of
            ``training.batch_size``. Default: all. Fewer need less memory.
        track: More scorers, in the forms of ``reward`` except ``judge``. Their means over the sampled responses are
            logged beside the reward, to show over-optimisation. They do not train.
        extra: Other settings of TRL, by their names in the method's configuration (``GRPOConfig``, …).
    """

    method: Method
    reward: str
    beta: float | None = None
    samples: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    prompts_per_pass: int | None = None
    track: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, spec in self.scorers.items():
            words = (SCORER, JUDGE) if key == "reward" else (SCORER,)
            require(
                spec in words or spec.count(":") == 1,
                key,
                f"reward_model:FOLDER, module:function, or {' or '.join(words)}",
                spec,
            )
        require(self.beta is None or 0.0 <= self.beta <= 1e6, "beta", "between 0 and 1000000", self.beta)
        positive(self.temperature, "temperature")
        fraction(self.top_p, "top_p")
        for key in ("max_new_tokens", "prompts_per_pass"):
            if getattr(self, key) is not None:
                positive(getattr(self, key), key)
        self._check_samples()
        twice = next((spec for spec in self.track if self.track.count(spec) > 1 or spec == self.reward), None)
        if twice is not None:
            raise ConfigError(f"track: {twice} is logged already; remove it")
        refuse_secrets(self.extra, "extra")

    def _check_samples(self) -> None:
        if self.samples is not None and self.method not in GROUPED:
            raise ConfigError(
                f"samples: {self.method} samples a fixed number of responses per prompt; remove it, or set method: "
                f"{' or '.join(GROUPED)}"
            )
        require(self.samples is None or 2 <= self.samples <= 10_000, "samples", "between 2 and 10000", self.samples)
        if self.reward == JUDGE and self.method in SINGLE:
            raise ConfigError(
                f"reward: a judge compares responses to a prompt, and {self.method} needs rewards of single ones; give "
                "a scorer or a reward model"
            )
        if self.method == "ppo" and self.top_p != 1.0:
            raise ConfigError("top_p: ppo samples from all tokens; remove it")
        if self.beta == 0.0 and self.method not in GROUPED:
            raise ConfigError(f"beta: {self.method} divides by it or needs its reference; set a value above 0")

    @property
    def scorers(self) -> dict[str, str]:
        """What is maximised and what is tracked, by key in this section."""
        return {"reward": self.reward} | {f"track[{place}]": spec for place, spec in enumerate(self.track)}

    def resolved(self) -> RlhfConfig:
        """The same settings with the defaults of the method filled in."""
        return replace(
            self,
            beta=self.kl_coefficient,
            samples=self.group_size if self.method in GROUPED else None,
            max_new_tokens=self.limit,
        )

    @property
    def kl_coefficient(self) -> float:
        """``beta``, or its default."""
        return BETAS[self.method] if self.beta is None else self.beta

    @property
    def group_size(self) -> int:
        """Responses per prompt in each step."""
        return SAMPLES[self.method] if self.samples is None else self.samples

    @property
    def responses(self) -> int:
        """Responses per prompt in each step, whatever policy samples them."""
        return 2 if self.method in ("xpo", "nash_md") else self.group_size

    @property
    def updates_per_step(self) -> int:
        """Optimizer updates on the responses of a step: PPO makes several passes over them."""
        return int(self.extra.get("num_ppo_epochs", 4)) if self.method == "ppo" else 1

    @property
    def passes_per_step(self) -> int:
        """Forward and backward passes over each response: PPO's value model has as many as the policy."""
        return 2 * self.updates_per_step if self.method == "ppo" else 1

    @property
    def samples_whole_steps(self) -> bool:
        """Whether all responses of a step are sampled together, rather than pass by pass."""
        return self.method in GROUPED

    @property
    def limit(self) -> int:
        """``max_new_tokens``, or its default."""
        return MAX_NEW_TOKENS if self.max_new_tokens is None else self.max_new_tokens


def _unset_bootstraps() -> tuple[BootstrapConfig, BootstrapConfig]:
    """The section as it is without any key, before and after its nulls are filled in."""
    plain = BootstrapConfig()
    return plain, replace(plain, sampling=replace(plain.sampling, max_new_tokens=plain.sampling.limit))


def check_rlhf_run(config: RunConfig) -> None:
    """Refuse settings that have no meaning where a reward trains.

    Raises:
        ConfigError: names the key, and what would be right.
    """
    rlhf, training = config.rlhf, config.training
    assert rlhf is not None
    if config.rounds > 1:
        raise ConfigError("rounds: rlhf trains once, with as many steps as training says; set rounds: 1")
    if config.world is None and config.data.prompts is None and config.data.pairs is None:
        raise ConfigError("data.prompts is missing: rlhf samples responses to prompts (or set data.pairs, for theirs)")
    given = {
        "crossfit": config.crossfit is not None,
        "objective": config.objective != one("dpo", DPO()),
        "reference.update": config.reference.update != "never",
        "reference.sync_steps": config.reference.sync_steps is not None,
        "policy.start": config.policy.start != "previous",
        "evaluation.baseline": config.evaluation.baseline,
        "training.average": training.average > 0,
        "training.eval_steps": training.eval_steps is not None,
    }
    for key, value in given.items():
        if value:
            raise ConfigError(f"{key}: rlhf trains on sampled responses by {rlhf.method}, which has none; remove it")
    rounds = {
        "scoring.reward": config.scoring.reward != "implicit",
        "scoring.length_correction": config.scoring.length_correction != "none",
        "scoring.min_accuracy": config.scoring.min_accuracy is not None,
        "selection": config.selection != SelectionConfig(),
        "bootstrap": config.bootstrap not in (None, *_unset_bootstraps()),
        "stop": (config.stop.bound, config.stop.patience, config.stop.warnings) != ("mean", 1, []),
    }
    for key, value in rounds.items():
        if value:
            raise ConfigError(f"{key}: it is for rounds of pairs, and rlhf has none; remove it")
    if rlhf.prompts_per_pass is not None and training.batch_size % rlhf.prompts_per_pass:
        raise ConfigError(
            f"rlhf.prompts_per_pass: {rlhf.prompts_per_pass} is no divisor of training.batch_size, "
            f"{training.batch_size}; give one"
        )
    if rlhf.method == "ppo" and (config.policy.lora is not None or config.policy.adapter is not None):
        key = "policy.lora" if config.policy.lora is not None else "policy.adapter"
        raise ConfigError(f"{key}: ppo of TRL trains whole models; remove it, or set rlhf.method: grpo or rloo")
    if rlhf.reward == JUDGE and config.evaluation.judge is None:
        raise ConfigError("rlhf.reward: judge is that of evaluation.judge, which is not set; set it")
