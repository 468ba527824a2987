"""What an objective is, and what it reads: values of responses, and a preference over those of each example.

Legend: N examples, R responses of all of them.

The implicit reward of a response is ``beta * objective.reward(...)``, and the margin of a pair is the difference of
``reward`` of its two responses, in nats and without beta. Training, scoring, selection and bootstrapping all call this
one ``reward``.

A soft label is p, the probability that the first response of the pair is the better one. What it does to the loss is
the objective's own (``seralign.objectives.pairs`` has the forms that several share). p = 1 is the plain objective to
the last bit, and p < 1/2 is the swapped pair with 1 - p.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeVar, get_args, runtime_checkable

from seralign.records import Form

if TYPE_CHECKING:  # a configuration names objectives, and is read without torch
    import numpy as np
    from torch import Tensor

Need = Literal["state", "step", "tokens", "collisions", "edits", "mismatched"]
"""What a loss can read beside the values of its own examples: numbers that are carried from step to step, the values of
all examples of the step, log-probabilities of tokens under policy and reference, those of the policy's tokens with
their collisions, which tokens of the responses of a pair differ, and a second response of each example, which answers
another prompt."""
NEEDS: tuple[Need, ...] = get_args(Need)

HeadName = Literal["language_model", "reward"]
"""What a model says of a response: its log-probability, or its reward (``seralign.policy.heads``)."""

Array = TypeVar("Array", "Tensor", "np.ndarray", float)


@dataclass(frozen=True, slots=True)
class ResponseValues:
    """Responses of N examples under the policy and the reference, R in all.

    The first responses of all examples come first, in the order of the examples, then the second ones, and so on. A
    pair's first response is the chosen one.

    Args:
        policy: The policy's value of each response, float32 or float64 [R]: log pi(y|x), summed over the response
            tokens, in nats.
        reference: log pi_ref(y|x) [R]; None for objectives without reference.
        lengths: Response tokens [R], any number type.
        example: The example that each response belongs to, 0 to N - 1, int64 [R].
        preference: What the example says of each response [R]. Of a pair: the probability that it is the better one; of
            a ranking its rank, 1 the best; of scores its score; of a label 1 or 0; of a demonstration NaN.
        examples: N.
        state: Of an objective that needs ``state``: the numbers that its ``next_state`` returned after the last step.
        step: Of an objective that needs ``step``: all examples of the step.
        tokens: Of an objective that needs ``tokens``, ``collisions`` or ``edits``: the log-probability of each token.

    Raises:
        ValueError: a tensor is not [R], which would broadcast silently; a value is in half precision, where a sum
            over a response has lost its digits; or there are fewer responses than examples.
    """

    policy: Tensor
    reference: Tensor | None
    lengths: Tensor
    example: Tensor
    preference: Tensor
    examples: int
    state: tuple[float, ...] = ()
    step: StepValues | None = None
    tokens: TokenValues | None = None

    def __post_init__(self) -> None:
        shape = self.policy.shape
        if len(shape) != 1:
            raise ValueError(f"policy must have shape [R], got {list(shape)}")
        for name in ("reference", "lengths", "example", "preference"):
            value: Tensor | None = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ValueError(f"{name} must have the shape of policy, {list(shape)}, got {list(value.shape)}")
        for name in ("policy", "reference"):
            value = getattr(self, name)
            if value is not None and str(value.dtype) not in ("torch.float32", "torch.float64"):
                raise ValueError(f"{name} must be float32 or float64, got {value.dtype}")
        if shape[0] < self.examples:
            raise ValueError(f"{self.examples} examples need a response each, got {shape[0]}")

    def first(self, of_response: Tensor) -> Tensor:
        """[N] of [R]: the first response of each example, the chosen one of a pair."""
        return of_response[: self.examples]

    def mean(self, of_response: Tensor) -> Tensor:
        """[N] of [R]: the mean over the responses of each example."""
        sums = of_response.new_zeros(self.examples).index_add(0, self.example, of_response)
        return sums / self.example.bincount(minlength=self.examples)

    def padded(self, of_response: Tensor, fill: float) -> Tensor:
        """[N, K] of [R]: the responses of each example in their order, K the most that one has; ``fill`` for absent."""
        counts = self.example.bincount(minlength=self.examples)
        order = self.example.argsort(stable=True)
        starts = counts.cumsum(0) - counts
        places = self.example.new_zeros(len(order))
        places[order] = self.example.new_ones(len(order)).cumsum(0) - 1 - starts[self.example[order]]
        table = of_response.new_full((self.examples, int(counts.max())), fill)
        return table.index_put((self.example, places), of_response)

    def second(self, of_response: Tensor) -> Tensor:
        """[N] of [R]: the second response of each example, the rejected one of a pair.

        Raises:
            ValueError: not every example is a pair.
        """
        if len(of_response) != 2 * self.examples:
            raise ValueError(f"{self.examples} pairs have {2 * self.examples} responses, got {len(of_response)}")
        return of_response[self.examples :]


@dataclass(frozen=True, slots=True)
class StepValues:
    """All examples of an optimizer step, whatever pack or process has them, without gradient.

    In an evaluation these are all held-out examples.

    Args:
        responses: The values of the step's M examples.
        at: Where each example of the pack is among them, int64 [N].
    """

    responses: ResponseValues
    at: Tensor


@dataclass(frozen=True, slots=True)
class TokenValues:
    """Log-probabilities of the T tokens of all responses, one response after the other. ``policy`` sums to theirs.

    Args:
        policy: log pi of each token, in nats [T].
        reference: log pi_ref of each token [T]; None unless the objective needs ``tokens`` and has a reference.
        collisions: log of the sum over the vocabulary of pi(v)^2, where v could stand in the token's place, without
            gradient [T]; None unless the objective needs ``collisions``.
        edits: 1 for a token of a pair that a diff with the other response changes, adds or removes, else 0 [T]; None
            unless the objective needs ``edits``.
    """

    policy: Tensor
    reference: Tensor | None
    collisions: Tensor | None = None
    edits: Tensor | None = None

    def by_response(self, lengths: Tensor, of: Callable[[Tensor, Tensor | None], Tensor]) -> Tensor:
        """A function of policy and reference, one row for each response: [R, L], 0 past its end."""
        import torch

        values = of(self.policy, self.reference)
        is_token = torch.arange(int(lengths.max()), device=values.device) < lengths[:, None]
        return values.new_zeros(is_token.shape).masked_scatter(is_token, values)


class Objective(Protocol):
    """A preference objective: a frozen dataclass whose fields are its settings.

    An objective that reads more than the values of its examples says so in a class variable ``needs``, a frozenset of
    ``NEEDS``. One that needs ``state`` is a ``StatefulObjective``. One whose loss has no form for a soft label sets the
    class variable ``hard_labels`` to True; pairs with another p than 0 or 1 are then refused. One that needs more than
    two responses of each ranking says how many in ``least_responses``. One that trains another head than that of a
    language model names it in the class variable ``head``.

    Attributes:
        beta: Strength of the implicit reward: reward = beta * ``reward``.
        forms: Forms of preference that the loss takes.
        reads: ``all`` responses of an example, or the ``first`` one alone.
        uses_reference: ``reward`` needs the reference's log-probabilities.
        unit: What the loss of a step is averaged over. ``example``: sum of weight * loss over the number of examples.
            ``token``: sum of weight * loss over the sum of the first responses' lengths. Weights are relative to their
            mean over the whole training table, so that an example's weight counts whatever its company in the step.
    """

    forms: ClassVar[frozenset[Form]]
    reads: ClassVar[Literal["all", "first"]]
    uses_reference: ClassVar[bool]
    unit: ClassVar[Literal["example", "token"]]

    @property
    def beta(self) -> float: ...

    def reward(self, policy: Array, reference: Array | None, length: Array) -> Array:
        """Implicit reward without beta [R], in nats, of responses from (log pi, log pi_ref, tokens), each [R].

        Works on tensors, numpy arrays and numbers alike.
        """
        ...

    def loss(self, responses: ResponseValues) -> Tensor:
        """Loss of each example [N], differentiable in ``responses.policy``."""
        ...


@runtime_checkable
class StatefulObjective(Protocol):
    """An objective with numbers that are carried from step to step, and are part of every checkpoint.

    Attributes:
        initial_state: The numbers before the first step.
    """

    initial_state: ClassVar[tuple[float, ...]]

    def next_state(self, state: tuple[float, ...], step: ResponseValues) -> tuple[float, ...]:
        """The numbers after a step, from those before it and the values of all its examples, without gradient."""
        ...


def needs_of(objective: Objective) -> frozenset[Need]:
    """What the loss reads beside the values of its examples."""
    return getattr(objective, "needs", frozenset())


def hard_labels(objective: Objective) -> bool:
    """Whether the loss has no form for a soft label."""
    return getattr(objective, "hard_labels", False)


def least_responses(objective: Objective) -> int:
    """The fewest responses of an example that the loss is defined for."""
    return getattr(objective, "least_responses", 1)


def head_of(objective: Objective) -> HeadName:
    """The head that the objective trains."""
    return getattr(objective, "head", "language_model")


def log_ratio(policy: Array, reference: Array | None) -> Array:
    """rho(y) = log pi(y|x) - log pi_ref(y|x), in nats (2305.18290, the reward of equation 5 without beta)."""
    if reference is None:
        raise ValueError("the log-ratio needs the reference's log-probabilities, got None")
    return policy - reference
