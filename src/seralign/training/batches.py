"""Rows of a table of examples as the tensors of a forward pass, and the model's output as input of the objective."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import datasets
import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor

from seralign.data.numbering import Numbering
from seralign.data.table_columns import (
    all_lengths,
    column_lengths,
    forms,
    numbered_responses,
    response_lengths,
    weights,
)
from seralign.objectives import ObjectiveSum, ResponseValues
from seralign.objectives.base import TokenValues
from seralign.policy.packing import BATCH_NAMES, make_batch
from seralign.policy.packs import Sizes
from seralign.policy.precision import exact_dtype
from seralign.policy.token_logps import TokenLogps
from seralign.training.edits import edited_tokens
from seralign.training.plan import Pack, Plan


@dataclass(frozen=True)
class PackDataset(torch.utils.data.Dataset):
    """The packs of a plan as a map-style dataset: one item is one forward pass.

    Args:
        examples: A table of examples.
        packs: The rows of each forward pass.
        objective: Determines which responses are used.
        packed_length: Longest sequence that the model accepts in packed rows.
        reference: Log-probabilities under the reference, in nats, of the used responses of ``examples``, by their
            number [R] (see ``seralign.data.numbering``); None if the objective has no reference.
        reference_tokens: As ``reference``, of each token, if the objective reads tokens.
        denominators: For each pack, the divisors of the summed losses of the terms in its optimizer step [T]; only for
            training.

    An example's weight is divided by the mean weight of ``examples``. It is 0 if the pack does not count.
    """

    examples: datasets.Dataset
    packs: Sequence[Pack]
    objective: ObjectiveSum
    packed_length: int
    reference: np.ndarray | None = None
    denominators: Sequence[Sequence[float]] | None = None
    reference_tokens: TokenLogps | None = None

    @cached_property
    def weights(self) -> np.ndarray:
        """[N] weights of the rows, with mean 1."""
        given = weights(self.examples).astype(np.float64)
        return given / given.mean()

    @cached_property
    def numbering(self) -> Numbering:
        """The numbering of the responses that the objective uses."""
        return numbered_responses(self.examples, self.objective.reads)

    @cached_property
    def of_pairs(self) -> bool:
        """Whether every example is a pair and both responses are used."""
        return self.objective.reads == "all" and forms(self.examples) == ("pair",)

    @cached_property
    def _edits(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        return {}

    def _edits_of(self, row: int, first: list[int], second: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Which tokens of a pair differ, found once."""
        if row not in self._edits:
            self._edits[row] = edited_tokens(first, second)
        return self._edits[row]

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pack = self.packs[index]
        rows = self.examples[pack.rows.tolist()]
        own = Numbering(self.numbering.counts[pack.rows])
        at = list(zip(own.rows.tolist(), own.places.tolist(), strict=True))
        # A demonstration has no preference.
        said = [list(stored) or [math.nan] for stored in rows["preference"]]
        numbers: dict[str, Any] = {
            "preference": np.array([said[row][place] for row, place in at], dtype=np.float64),
            "weight": self.weights[pack.rows] * pack.counts,
        }
        if self.denominators is not None:
            numbers["denominators"] = self.denominators[index]
        if self.reference is not None:
            numbers["reference"] = self.reference[self.numbering.of_rows(pack.rows)]
        if self.reference_tokens is not None:
            numbers["reference_tokens"] = self.reference_tokens.of(self.numbering.of_rows(pack.rows))
        if "edits" in self.objective.needs:
            marks = [self._edits_of(int(row), *pair) for row, pair in zip(pack.rows, rows["response_ids"], strict=True)]
            numbers["edits"] = np.concatenate([marks[row][place] for row, place in at])
        device: Any = PartialState().device
        exact = exact_dtype(device)
        sequences = [(rows["prompt_ids"][row], rows["response_ids"][row][place]) for row, place in at]
        tensors = make_batch(sequences, self.packed_length)
        tensors["example"], tensors["pack"] = torch.as_tensor(own.rows, dtype=torch.int64), torch.tensor(index)
        return tensors | {name: torch.as_tensor(value, dtype=exact) for name, value in numbers.items()}


def row_sizes(examples: datasets.Dataset, reads: Literal["all", "first"]) -> Sizes:
    """Sizes of the rows of a table: the prompt with the responses that are used."""
    prompts, numbering = column_lengths(examples, "prompt_ids"), numbered_responses(examples, reads)
    lengths = all_lengths(examples, numbering)
    together, longest = np.zeros_like(prompts), np.zeros_like(prompts)
    np.add.at(together, numbering.rows, lengths)
    np.maximum.at(longest, numbering.rows, lengths)
    return Sizes(prompts + together, prompts + longest, numbering.counts)


def loss_denominators(examples: datasets.Dataset, plan: Plan, objective: ObjectiveSum) -> list[list[float]]:
    """For each pack and each term, the divisor of the term's summed loss: the number of examples (or of tokens of first
    responses) in the pack's whole optimizer step.

    With weights of mean 1 over the table, the loss of a step is sum(w_i l_i) / (mean(w) * units). It is not divided by
    the weights of the step itself, which would cancel if they are all equal, and always in a step of one example.
    """
    units = {"example": np.ones(len(examples), dtype=np.int64), "token": response_lengths(examples, 0)}
    own = [units[term.objective.unit] for term in objective.terms]
    sums = [[float(of_row[plan.step_rows(step)].sum()) for of_row in own] for step in range(plan.steps)]
    return [sums[plan.step_of(pack)] for pack in range(len(plan.packs))]


def response_values(batch: dict[str, Tensor], values: Tensor) -> ResponseValues:
    """The objective's input: a pack from ``PackDataset`` and the model's values of its responses [R].

    If the objective reads tokens, the pack also has ``tokens``, the model's values of each.
    """
    names = ("lengths", "preference", "reference", "reference_tokens", "tokens", "collisions", "edits")
    like = {name: batch[name].to(values.dtype) for name in names if name in batch}
    return ResponseValues(
        policy=values,
        reference=like.get("reference"),
        lengths=like["lengths"],
        example=batch["example"],
        preference=like["preference"],
        examples=len(batch["weight"]),
        tokens=_tokens(like) if "tokens" in like else None,
    )


def _tokens(like: dict[str, Tensor]) -> TokenValues:
    return TokenValues(like["tokens"], like.get("reference_tokens"), like.get("collisions"), like.get("edits"))


def model_inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a pack that the model needs."""
    return {name: batch[name] for name in BATCH_NAMES if name in batch}


def numbers(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a pack that the objective needs: everything but tokens."""
    return {name: value for name, value in batch.items() if name not in BATCH_NAMES or name == "lengths"}
