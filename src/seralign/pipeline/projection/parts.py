"""The work of a run as its projection counts it: forward passes, optimizer steps and sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["reference scoring", "scoring", "sampling", "rescoring", "training", "evaluation"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Passes:
    """Forward passes, or optimizer steps where ``steps`` is not 0.

    Args:
        rows: Number of rows that are computed as a whole.
        tokens: Mean tokens of a row, its prompt counted once.
        longest: Mean tokens of one sequence of a row.
        responses: Mean tokens of a row's responses, which reach the output layer.
        budget: Tokens of one forward pass.
        steps: Optimizer steps.
        batch: Rows of an optimizer step.
        checkpointing: Whether activations are recomputed.
    """

    rows: float
    tokens: float
    longest: float
    responses: float
    budget: int
    steps: int = 0
    batch: int = 0
    checkpointing: bool = False

    @property
    def total(self) -> float:
        """All tokens."""
        return self.rows * self.tokens


@dataclass(frozen=True)
class Sampling:
    """Responses to sample.

    Args:
        prompts: Number of prompts.
        samples: Responses to each.
        together: Prompts of a batch.
        prompt: Mean tokens of a prompt.
        response: Mean tokens of a response.
        limit: Most tokens of a response.
    """

    prompts: int
    samples: int
    together: int
    prompt: int
    response: int
    limit: int

    @property
    def total(self) -> float:
        """Tokens that go through the model; a prompt once for all its responses."""
        return self.prompts * (self.prompt + self.samples * self.response)


@dataclass(frozen=True)
class Part:
    """A part of a stage's work that uses a model in one way. ``models``: weights of so many other models of its size
    are in memory."""

    stage: str
    kind: Kind
    work: Passes | Sampling
    models: int = 0
