"""Settings of the pairs that rounds make of sampled responses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from seralign.checks import positive, require
from seralign.config.fields import INLINE
from seralign.config.query import QueryConfig
from seralign.config.rounds import SelectionConfig
from seralign.config.sampling import SamplingConfig
from seralign.errors import ConfigError

Method = Literal["sera", "online", "spin", "sapo"]

# The methods whose chosen responses are demonstrations.
DEMONSTRATED: tuple[Method, ...] = ("spin", "sapo")

_SHARES = (0.3, 0.5, 0.6, 0.7)
_DECAY = 0.5


@dataclass(frozen=True)
class BootstrapConfig:
    """Pairs that are made of sampled responses.

    Args:
        method: ``sera``: rounds after the first add pairs of sampled responses to the offline pairs. With the other
            methods, all rounds train on newly made pairs alone (docs/self_play.md). ``online``: pairs of two responses.
            ``spin``: a demonstration is chosen, a response to its prompt rejected. ``sapo``: a demonstration is chosen,
            the same text with a sampled segment in it rejected; ``max_new_tokens`` is the length of the segment.
        sample_from: The policy that responses are sampled from: the last policy (``policy``), the one before it
            (``previous``), the policy that round 1 started from (``initial``), or the moving average of the weights of
            all policies before (``average``). The reward policies are always the last ones. The further a policy is
            from the reference, the less its implicit reward can distinguish its own responses.
        decay: Weight of the earlier policies in the moving average: each round moves it by 1 - ``decay`` towards the
            round's policy.
        samples: Responses per prompt (R).
        sampling: How they are sampled.
        prompts: Number of prompts in each round, drawn again each time; for ``spin`` and ``sapo``, of demonstrations.
            Default: all.
        preferences: What the responses to a prompt give: the ``best_worst`` pair, or a ``ranking`` of all of them, for
            objectives that take rankings.
        labels: ``reward``: the response with the higher reward (``scoring.reward``) is better, p = 1. ``judge``: p is
            the verdict of ``evaluation.judge`` (by default ``evaluation.scorer``) on the two, and the worse one is
            rejected. ``queue``: the run ends after a file with the pairs is written, and resumes when you have labelled
            them (docs/labels.md).
        agreement: p of the pairs with ``labels: reward``. ``none``: 1. ``prompt``: how far the last policy and the one
            before it agree on the ranking of the responses to the prompt, (Kendall's tau + 1) / 2. ``dataset``: the
            mean of that over all prompts (CREAM, 2410.12735). Below one half, the response with the lower reward is
            the chosen one.
        query: Which of the pairs are labelled by the judge, or are in the queue. Default: all of them.
        allow_partial: Continue if only some pairs of the queue have a label, and leave out the others. It may be
            changed when the run is resumed.
        selection: Which of the generated pairs are kept. ``top_within_prompt`` is refused, because a prompt gives at
            most one pair.
        shares: Share of generated pairs in the training data of rounds 2, 3, ... with the method ``sera``. The last
            value applies to all later rounds.
        replay: Number of earlier rounds whose generated pairs are used again, with a method other than ``sera``.
            ``online`` and ``spin`` train on all of them; ``sapo`` draws as many pairs as the round makes, those that
            were used less often with a higher probability.
    """

    method: Method = "sera"
    sample_from: Literal["policy", "previous", "initial", "average"] = "policy"
    decay: float = _DECAY
    samples: int = 4
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=0.7), metadata=INLINE)
    prompts: int | None = None
    preferences: Literal["best_worst", "ranking"] = "best_worst"
    labels: Literal["reward", "judge", "queue"] = "reward"
    agreement: Literal["none", "dataset", "prompt"] = "none"
    query: QueryConfig | None = None
    allow_partial: bool = False
    selection: SelectionConfig = field(default_factory=lambda: SelectionConfig(fraction=0.6))
    shares: list[float] = field(default_factory=lambda: list(_SHARES))
    replay: int = 0

    def __post_init__(self) -> None:
        if self.demonstrated:
            positive(self.samples, "samples")
        else:
            require(self.samples >= 2, "samples", "at least 2 (a best and a worst)", self.samples)
        require(self.samples <= 10_000, "samples", "at most 10000", self.samples)
        positive(self.sampling.temperature, "temperature")
        require(self.prompts is None or self.prompts > 0, "prompts", "greater than 0", self.prompts)
        require(0.0 < self.decay < 1.0, "decay", "between 0 and 1", self.decay)
        if self.decay != _DECAY and self.sample_from != "average":
            raise ConfigError(
                f"decay is of sample_from: average, which is {self.sample_from!r}; set sample_from: average, or leave "
                "it out"
            )
        if self.labels != "reward" and self.preferences == "ranking":
            raise ConfigError(
                f"labels: {self.labels} compares two responses; set preferences: best_worst, or labels: reward"
            )
        if self.agreement != "none" and (self.labels != "reward" or self.preferences == "ranking"):
            other = f"labels: {self.labels}" if self.labels != "reward" else "preferences: ranking"
            raise ConfigError(
                f"agreement: {self.agreement} is the p of pairs that the reward labels, and {other} has none; set "
                "agreement: none"
            )
        if self.query is not None and self.labels == "reward":
            raise ConfigError("query chooses pairs for a labeller; set labels: judge or queue, or leave query out")
        if self.allow_partial and self.labels != "queue":
            raise ConfigError("allow_partial is for labels: queue; leave it out")
        if self.selection.rule == "top_within_prompt":
            raise ConfigError(
                "selection.rule: top_within_prompt needs several pairs a prompt, and a prompt gives at most one "
                "generated pair; set another rule, such as top"
            )
        require(
            len(self.shares) > 0 and all(0.0 <= share < 1.0 for share in self.shares),
            "shares",
            "a list of numbers in [0, 1)",
            self.shares,
        )
        self._check_method()

    def _check_method(self) -> None:
        """Refuse settings that the method cannot honour."""
        require(self.replay >= 0, "replay", "at least 0", self.replay)
        if self.method == "sera":
            if self.replay:
                raise ConfigError(
                    "replay is for the methods online, spin and sapo; method: sera trains on offline pairs again "
                    "(shares); leave it out"
                )
            return
        if tuple(self.shares) != _SHARES:
            raise ConfigError(
                f"shares are of generated and offline pairs, and with method: {self.method} all pairs are generated; "
                "leave them out"
            )
        if not self.demonstrated:
            return
        for key, value, only in (
            ("preferences", self.preferences, "best_worst"),
            ("labels", self.labels, "reward"),
            ("agreement", self.agreement, "none"),
        ):
            if value != only:
                raise ConfigError(
                    f"{key}: {value} compares sampled responses, and with method: {self.method} the demonstration is "
                    f"always the chosen one; leave {key} out"
                )
        if self.method == "spin" and self.sample_from != "policy":
            raise ConfigError(
                f"sample_from: {self.sample_from}: the opponent of SPIN is the previous round's policy; set "
                "sample_from: policy, or method: sapo"
            )
        if self.selection.rule not in ("all", "random"):
            raise ConfigError(
                f"selection.rule: {self.selection.rule} selects by margin, and pairs of method: {self.method} have "
                "none, since nothing ranks them; set all or random"
            )

    def check_soft_labels(self, reward: str, hard: list[str]) -> None:
        """Refuse soft labels that the rest of the run cannot make or use.

        Args:
            reward: ``scoring.reward``.
            hard: Names of the objectives without a form for soft labels.

        Raises:
            ConfigError: names the key, and what would be right.
        """
        if hard and self.labels != "reward":
            made_by = "the verdicts of a judge" if self.labels == "judge" else "those of a queue"
            raise ConfigError(
                f"bootstrap.labels: {made_by} are soft labels, and {hard[0]} has no form for those; set "
                "bootstrap.labels: reward"
            )
        if self.agreement == "none":
            return
        if reward != "implicit":
            raise ConfigError(
                f"bootstrap.agreement: {self.agreement} is that of the policies' implicit rewards, and scoring.reward: "
                f"{reward} ranks by reward models; set bootstrap.agreement: none, or scoring.reward: implicit"
            )
        if hard:
            raise ConfigError(
                f"bootstrap.agreement: {self.agreement} makes labels soft, and {hard[0]} has no form for those; set "
                "bootstrap.agreement: none"
            )

    @property
    def demonstrated(self) -> bool:
        """Whether the chosen responses are demonstrations."""
        return self.method in DEMONSTRATED

    @property
    def form(self) -> Literal["pair", "ranking"]:
        """The form of preference that is made."""
        return "pair" if self.preferences == "best_worst" else "ranking"

    def share(self, round_index: int) -> float:
        """Share of generated pairs in round ``round_index`` (2, 3, ...)."""
        return self.shares[min(round_index - 2, len(self.shares) - 1)]
