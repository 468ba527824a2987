"""From rows of a pairs table to the tensors of one forward pass, and from those to log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, nn

from seralign.data.table import column_lengths
from seralign.objectives import LogProbs, Objective
from seralign.packs import Sizes
from seralign.policy.logprobs import response_logps
from seralign.policy.packing import BATCH_NAMES, make_batch
from seralign.policy.precision import exact_dtype
from seralign.training.plan import Pack, Plan


@dataclass(frozen=True)
class ReferenceLogps:
    """Log-probabilities [N] of chosen and rejected responses under the reference, by row, in nats."""

    chosen: np.ndarray
    rejected: np.ndarray


@dataclass(frozen=True)
class PackDataset(torch.utils.data.Dataset):
    """The packs of a plan as a map-style data set: one item is one forward pass.

    Args:
        pairs: Rows with the columns of :class:`seralign.records.Pair`.
        packs: What goes together.
        objective: Says which responses are read.
        packed_length: The longest sequence that the model takes in packed rows.
        reference: Log-probabilities under the reference, where the objective has one.
        denominators: For each pack, what the summed loss of its optimizer step is divided by; only training needs it.

    A pair's weight is relative to the mean weight of ``pairs``; it is 0 where the pack does not count.
    """

    pairs: datasets.Dataset
    packs: Sequence[Pack]
    objective: Objective
    packed_length: int
    reference: ReferenceLogps | None = None
    denominators: Sequence[float] | None = None

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
        numbers: dict[str, Any] = {"p": rows["p"], "weight": self.weights[pack.rows] * pack.counts}
        if self.denominators is not None:
            numbers["denominator"] = self.denominators[index]
        if self.reference is not None:
            numbers["reference_chosen"] = self.reference.chosen[pack.rows]
            numbers["reference_rejected"] = self.reference.rejected[pack.rows]
        device: Any = PartialState().device
        exact = exact_dtype(device)
        return make_batch(_sequences(rows, self.objective.uses_rejected), self.packed_length) | {
            name: torch.as_tensor(value, dtype=exact) for name, value in numbers.items()
        }


def row_sizes(pairs: datasets.Dataset, with_rejected: bool) -> Sizes:
    """Sizes of the rows of a table: the prompt with the responses that are read."""
    prompts, chosen = column_lengths(pairs, "prompt_ids"), column_lengths(pairs, "chosen_ids")
    if not with_rejected:
        return Sizes(prompts + chosen, prompts + chosen, np.ones_like(prompts))
    rejected = column_lengths(pairs, "rejected_ids")
    return Sizes(prompts + chosen + rejected, prompts + np.maximum(chosen, rejected), np.full_like(prompts, 2))


def loss_denominators(pairs: datasets.Dataset, plan: Plan, objective: Objective) -> list[float]:
    """For each pack, the pairs (or chosen tokens) of its whole optimizer step, which its summed loss is divided by.

    With weights of mean 1 over the table, the loss of a step is sum(w_i l_i) / (mean(w) * units). The weights of the
    step itself do not divide it: they would cancel where all are equal, and in a step of one pair always.
    """
    by_token = objective.unit == "token"
    units = column_lengths(pairs, "chosen_ids") if by_token else np.ones(len(pairs), dtype=np.int64)
    sums = [float(units[plan.step_rows(step)].sum()) for step in range(plan.steps)]
    return [sums[plan.step_of(pack)] for pack in range(len(plan.packs))]


def forward_logps(model: nn.Module, batch: dict[str, Tensor], with_rejected: bool) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities [N] of chosen and rejected responses of a pack."""
    logps = response_logps(model, **{name: batch[name] for name in BATCH_NAMES if name in batch})
    if not with_rejected:
        return logps, None
    chosen, rejected = logps.chunk(2)
    return chosen, rejected


def pack_logprobs(batch: dict[str, Tensor], chosen: Tensor, rejected: Tensor | None) -> LogProbs:
    """The objective's input from a pack and the policy's log-probabilities of it."""
    lengths = batch["lengths"].to(chosen.dtype)
    chosen_length, rejected_length = (lengths, None) if rejected is None else lengths.chunk(2)

    def like(name: str) -> Tensor | None:
        return batch[name].to(chosen.dtype) if name in batch else None

    return LogProbs(
        policy_chosen=chosen,
        policy_rejected=rejected,
        reference_chosen=like("reference_chosen"),
        reference_rejected=like("reference_rejected"),
        chosen_length=chosen_length,
        rejected_length=rejected_length,
        p=batch["p"].to(chosen.dtype),
    )


def _sequences(rows: dict[str, Any], with_rejected: bool) -> list[tuple[list[int], list[int]]]:
    """(prompt ids, response ids) of a pack: all chosen responses, then all rejected ones."""
    chosen = list(zip(rows["prompt_ids"], rows["chosen_ids"], strict=True))
    return chosen + list(zip(rows["prompt_ids"], rows["rejected_ids"], strict=True)) if with_rejected else chosen
