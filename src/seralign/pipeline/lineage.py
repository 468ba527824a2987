"""Which policies a round uses, by name. Derived from the configuration before any policy exists.

A policy is named by its role: ``base`` (the model in the configuration), ``initial`` (the policy that the rounds start
from: the supervised policy, or the base), ``reference``, ``round-1``, ``round-2``, ... (trained by the rounds),
``baseline``, ``crossfit/fold-1``, ... (the copies that review the data), and ``round-3/average``, ... (the moving
average of the policies before the round). ``Context.policy`` finds the policy of a role.
"""

from __future__ import annotations

from dataclasses import dataclass

from seralign.config import RunConfig
from seralign.config.self_play import ranks_by_policies
from seralign.runs.layout import (
    AVERAGE,
    BASELINE,
    INITIAL,
    SFT,
    part_of,
    round_name,
    round_of,
    round_stage,
    training,
)

__all__ = [
    "BASE",
    "BASELINE",
    "INITIAL",
    "REFERENCE",
    "RewardPolicy",
    "Round",
    "averaged_before",
    "role_before",
    "rounds",
    "trained_by",
    "trained_in",
]

BASE = "base"
REFERENCE = "reference"


@dataclass(frozen=True)
class RewardPolicy:
    """A policy whose implicit reward is used, and the reference that it was trained against."""

    policy: str
    reference: str


@dataclass(frozen=True)
class Round:
    """The policies of a round, by role.

    Args:
        index: Number of the round, from 1.
        start: The policy whose weights training starts from.
        reference: The reference of the training.
        reward_policies: The policies whose implicit rewards score the round's data: the last policy, and the one before
            it if there is one. Empty if the round scores nothing, as round 1 of SeRA.
        sample_from: The policy that answers the prompts; None if the round samples nothing.
        generates_all: Whether the round trains on newly made pairs alone.
    """

    index: int
    start: str
    reference: str
    reward_policies: tuple[RewardPolicy, ...] = ()
    sample_from: str | None = None
    generates_all: bool = False

    @property
    def policy(self) -> str:
        """The policy that the round trains."""
        return trained_in(self.index)

    @property
    def is_reviewed(self) -> bool:
        """Whether the round scores and selects offline data, and composes what it trains on."""
        return bool(self.reward_policies) and not self.generates_all

    @property
    def averages(self) -> bool:
        """Whether the round begins by averaging the policies before it."""
        return round_stage(self.index, AVERAGE) in (self.sample_from, self.reference)


def trained_in(index: int) -> str:
    """The role of the policy that a round trains; round 0 is the policy that the rounds start from."""
    return INITIAL if index == 0 else round_name(index)


def role_before(role: str) -> str | None:
    """The role whose policy comes before in the order of a run; None for ``base``."""
    index = round_of(role)
    if index is None:
        return {BASE: None, INITIAL: BASE}.get(role, INITIAL)
    return averaged_before(index - 1) if part_of(role) == AVERAGE else trained_in(index - 1)


def averaged_before(index: int) -> str:
    """The role of the moving average of the policies before a round. It begins with the policy of round 1, so only
    from round 3 on it is a policy of its own."""
    return trained_in(index - 1) if index < 3 else round_stage(index, AVERAGE)


def trained_by(role: str) -> str:
    """The stage that makes the policy of a role; for ``initial`` the supervised training."""
    if role == INITIAL:
        return SFT
    if part_of(role) == AVERAGE:
        return role
    return training(role) if role == BASELINE or round_of(role) is not None else role


def rounds(config: RunConfig) -> tuple[Round, ...]:
    """The rounds of a run: SeRA (2410.09362), or another ``bootstrap.method``, with the choices of ``policy.start``,
    ``reference.update`` and ``bootstrap.sample_from``."""
    return tuple(_round(config, index) for index in range(1, config.rounds + 1))


def _round(config: RunConfig, index: int) -> Round:
    start = trained_in(index - 1) if config.policy.start == "previous" else INITIAL
    reference = _reference(config, index)
    if config.generates_all:
        scoring = _reward_policies(config, index, 0) if ranks_by_policies(config) else ()
        return Round(index, start, reference, scoring, _sample_from(config, index), generates_all=True)
    if index == 1:
        return Round(index, start, reference)
    return Round(index, start, reference, _reward_policies(config, index, 1), _sample_from(config, index))


def _reward_policies(config: RunConfig, index: int, first: int) -> tuple[RewardPolicy, ...]:
    """The last two policies before a round, those before round ``first`` left out, each with its reference."""
    last = [number for number in (index - 1, index - 2) if number >= first]
    return tuple(RewardPolicy(trained_in(number), _reference(config, number)) for number in last)


def _reference(config: RunConfig, index: int) -> str:
    """The reference of a round's training."""
    if config.reference.update == "never" or index <= 1:
        return REFERENCE
    return trained_in(index - 1) if config.reference.update == "each_round" else averaged_before(index)


def _sample_from(config: RunConfig, index: int) -> str | None:
    if config.bootstrap is None:
        return None
    choices = {
        "policy": trained_in(index - 1),
        "previous": trained_in(max(index - 2, 0)),
        "initial": INITIAL,
        "average": averaged_before(index),
    }
    return choices[config.bootstrap.sample_from]
