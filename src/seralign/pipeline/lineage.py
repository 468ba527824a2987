"""Which policies a round uses, by name. Derived from the configuration before any policy exists.

A policy is named by its role: ``base`` (the model in the configuration), ``initial`` (the policy that the rounds start
from: the supervised policy, or the base), ``reference``, ``round-1``, ``round-2``, ... (trained by the rounds),
``baseline``, and ``crossfit/fold-1``, ... (the copies that review the data). ``Context.policy`` finds the policy of a
role.
"""

from __future__ import annotations

from dataclasses import dataclass

from seralign.config import RunConfig
from seralign.runs.layout import BASELINE, INITIAL, SFT, round_name, round_of, training

__all__ = ["BASE", "BASELINE", "INITIAL", "REFERENCE", "RewardPolicy", "Round", "rounds", "trained_by", "trained_in"]

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
            it if there is one. Empty for round 1, which scores nothing.
        sample_from: The policy that answers the prompts; None if the round samples nothing.
    """

    index: int
    start: str
    reference: str
    reward_policies: tuple[RewardPolicy, ...] = ()
    sample_from: str | None = None

    @property
    def policy(self) -> str:
        """The policy that the round trains."""
        return trained_in(self.index)

    @property
    def is_reviewed(self) -> bool:
        """Whether the round scores, selects and composes its data."""
        return bool(self.reward_policies)


def trained_in(index: int) -> str:
    """The role of the policy that a round trains; round 0 is the policy that the rounds start from."""
    return INITIAL if index == 0 else round_name(index)


def trained_by(role: str) -> str:
    """The stage that trains the policy of a role; for ``initial`` the supervised training."""
    if role == INITIAL:
        return SFT
    return training(role) if role == BASELINE or round_of(role) is not None else role


def rounds(config: RunConfig) -> tuple[Round, ...]:
    """The rounds of a run: SeRA (2410.09362) with the choices of ``policy.start``, ``reference.update`` and
    ``bootstrap.sample_from``."""
    return tuple(_round(config, index) for index in range(1, config.rounds + 1))


def _round(config: RunConfig, index: int) -> Round:
    previous = trained_in(index - 1)
    start = previous if config.policy.start == "previous" else INITIAL
    if index == 1:
        return Round(index, start, _reference(config, index))
    last = [number for number in (index - 1, index - 2) if number > 0]
    return Round(
        index,
        start,
        _reference(config, index),
        tuple(RewardPolicy(trained_in(number), _reference(config, number)) for number in last),
        _sample_from(config, index),
    )


def _reference(config: RunConfig, index: int) -> str:
    """The reference of a round's training."""
    return trained_in(index - 1) if config.reference.update == "each_round" and index > 1 else REFERENCE


def _sample_from(config: RunConfig, index: int) -> str | None:
    if config.bootstrap is None:
        return None
    choices = {"policy": trained_in(index - 1), "previous": trained_in(index - 2), "initial": INITIAL}
    return choices[config.bootstrap.sample_from]
