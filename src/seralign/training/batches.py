"""From rows of a pairs table to the tensors of one forward pass, and from those to log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import datasets
import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor

from seralign.data.table import column_lengths, response_lengths
from seralign.objectives import ObjectiveSum, ResponseValues
from seralign.policy.packing import BATCH_NAMES, make_batch
from seralign.policy.packs import Sizes
from seralign.policy.precision import exact_dtype
from seralign.training.plan import Pack, Plan

ResponseModel = Callable[..., Tensor]
"""The model and the tensors of a pack, as ``make_batch`` makes them, to one value a
response [R]."""


@dataclass(frozen=True)
class PackDataset(torch.utils.data.Dataset):
    """The packs of a plan as a map-style data set: one item is one forward pass.

    Args:
        pairs: Rows with the columns of ``seralign.records.Pair``.
        packs: What goes together.
        objective: Says which responses are read.
        packed_length: The longest sequence that the model takes in packed rows.
        reference: Log-probabilities of the chosen and the rejected responses under the reference, in nats [2, rows],
            where the objective has one.
        denominators: For each pack, what the summed loss of each term of its optimizer step is divided by [T]; only
            training needs it.

    A pair's weight is relative to the mean weight of ``pairs``; it is 0 where the pack does not count.
    """

    pairs: datasets.Dataset
    packs: Sequence[Pack]
    objective: ObjectiveSum
    packed_length: int
    reference: np.ndarray | None = None
    denominators: Sequence[Sequence[float]] | None = None

    @cached_property
    def weights(self) -> np.ndarray:
        """[N] weights of the rows, with mean 1."""
        given = np.asarray(self.pairs.with_format("numpy")["weight"][:], dtype=np.float64)
        return given / given.mean()

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pack = self.packs[index]
        rows = self.pairs[pack.rows.tolist()]
        both = self.objective.reads == "all"
        p = np.asarray(rows["p"], dtype=np.float64)
        numbers: dict[str, Any] = {
            "preference": np.concatenate([p, 1 - p]) if both else p,
            "weight": self.weights[pack.rows] * pack.counts,
        }
        if self.denominators is not None:
            numbers["denominators"] = self.denominators[index]
        if self.reference is not None:
            numbers["reference"] = self.reference[: 1 + both, pack.rows].reshape(-1)
        device: Any = PartialState().device
        exact = exact_dtype(device)
        tensors = make_batch(_sequences(rows, both), self.packed_length)
        tensors["example"] = torch.arange(len(p)).repeat(1 + both)
        return tensors | {name: torch.as_tensor(value, dtype=exact) for name, value in numbers.items()}


def row_sizes(pairs: datasets.Dataset, reads: Literal["all", "first"]) -> Sizes:
    """Sizes of the rows of a table: the prompt with the responses that are read."""
    prompts, chosen = column_lengths(pairs, "prompt_ids"), response_lengths(pairs, 0)
    if reads == "first":
        return Sizes(prompts + chosen, prompts + chosen, np.ones_like(prompts))
    rejected = response_lengths(pairs, 1)
    return Sizes(prompts + chosen + rejected, prompts + np.maximum(chosen, rejected), np.full_like(prompts, 2))


def loss_denominators(pairs: datasets.Dataset, plan: Plan, objective: ObjectiveSum) -> list[list[float]]:
    """For each pack and each term, the examples (or tokens of first responses) of the pack's whole optimizer step,
    which the term's summed loss is divided by.

    With weights of mean 1 over the table, the loss of a step is sum(w_i l_i) / (mean(w) * units). The weights of the
    step itself do not divide it: they would cancel where all are equal, and in a step of one pair always.
    """
    units = {"example": np.ones(len(pairs), dtype=np.int64), "token": response_lengths(pairs, 0)}
    own = [units[term.objective.unit] for term in objective.terms]
    sums = [[float(of_row[plan.step_rows(step)].sum()) for of_row in own] for step in range(plan.steps)]
    return [sums[plan.step_of(pack)] for pack in range(len(plan.packs))]


def response_values(batch: dict[str, Tensor], values: Tensor) -> ResponseValues:
    """The objective's input, from a pack of ``PackDataset`` and the model's values of its responses [R]."""
    like = {name: batch[name].to(values.dtype) for name in ("lengths", "preference", "reference") if name in batch}
    return ResponseValues(
        policy=values,
        reference=like.get("reference"),
        lengths=like["lengths"],
        example=batch["example"],
        preference=like["preference"],
        examples=len(batch["weight"]),
    )


def model_inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of a pack the model reads."""
    return {name: batch[name] for name in BATCH_NAMES if name in batch}


def _sequences(rows: dict[str, Any], both: bool) -> list[tuple[list[int], list[int]]]:
    """(prompt ids, response ids) of a pack: all chosen responses, then all rejected ones."""
    chosen = list(zip(rows["prompt_ids"], rows["chosen_ids"], strict=True))
    return chosen + list(zip(rows["prompt_ids"], rows["rejected_ids"], strict=True)) if both else chosen
