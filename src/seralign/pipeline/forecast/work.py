"""The work of a stage: forward passes, optimizer steps and sampling, in numbers and tokens.

Legend: B forward passes, packs or batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seralign.pipeline.forecast.foreseen import Lengths


@dataclass(frozen=True)
class Passes:
    """Forward passes without gradients. ``section`` of the configuration bounds them by its ``tokens_per_pack``.

    ``tokens`` [B] of each pass, padding counted; ``longest``: tokens of the largest thing that cannot be divided.
    """

    section: str
    responses: int
    tokens: np.ndarray
    longest: int


@dataclass(frozen=True)
class Steps:
    """Optimizer steps.

    ``tokens`` [B] of each pack, padding counted; ``shared``: tokens saved because a prompt stands once in a pack;
    ``padding``: how many of the tokens are padding.
    """

    section: str
    count: int
    accumulation: int
    tokens: np.ndarray
    longest: int
    shared: int
    padding: int


@dataclass(frozen=True)
class Sampling:
    """Batches of prompts to sample from: ``prompts`` [B] in each and ``widths`` [B] of its longest."""

    section: str
    prompts: np.ndarray
    widths: np.ndarray
    samples: int
    lengths: Lengths


@dataclass(frozen=True)
class StageWork:
    """A stage: what it counts, and what a model does in it.

    ``loads``: how often a model is loaded; ``bytes``: memory that the stage needs beside passes, steps and sampling;
    ``beside``: bytes of other models that are in memory with the policy; ``cached``: rows that it adds to the
    log-probability cache.
    """

    name: str
    count: int
    unit: str
    steps: Steps | None = None
    passes: tuple[Passes, ...] = ()
    sampling: Sampling | None = None
    loads: int = 0
    bytes: int = 0
    beside: int = 0
    cached: int = 0
    note: str = ""

    @property
    def tokens(self) -> int:
        """Tokens that go through a model, forward passes of references and held-out data counted."""
        total = sum(int(part.tokens.sum()) for part in (*self.passes, *([self.steps] if self.steps else [])))
        made = self.sampling
        if made is None:
            return total
        rows = int(made.prompts.sum()) * made.samples
        return total + int((made.prompts * made.widths).sum()) + rows * made.lengths.mean
