"""Stops a training at the first loss or gradient that is not finite, and names the examples of it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from seralign.errors import ConfigError
from seralign.training.batches import PackDataset

# Identities in a message.
_NAMED = 8


class FiniteCheck:
    """The examples of a step and whether their losses are finite, until the step ends.

    They are looked at once a step, right before the optimizer would change the weights, so a device is waited for once.

    Args:
        section: Where the settings of the training are in the configuration, for messages.
        scaled: Whether gradients that overflow are usual, as in float16: their step is left out, and the scale of the
            loss is lowered.
    """

    def __init__(self, section: str, *, scaled: bool) -> None:
        self._section, self._scaled = section, scaled
        self._seen: list[tuple[int, Tensor]] = []

    def see(self, pack: int, finite: Tensor) -> None:
        """Count in a pack of the step: whether the loss of each of its examples [N] is finite."""
        self._seen.append((pack, finite))

    def end_step(self, packs: PackDataset, step: int, norm: Any) -> None:
        """Forget the packs of a step.

        Args:
            packs: The packs.
            step: The number of the step, from 1.
            norm: The norm of its gradient.

        Raises:
            ConfigError: A loss of the step is not finite, or its gradient is not; names the examples.
        """
        seen, self._seen = self._seen, []
        whole = torch.stack([finite.all() for _, finite in seen]).tolist() if seen else []
        for (pack, finite), is_whole in zip(seen, whole, strict=True):
            if not is_whole:
                rows = packs.packs[pack].rows[~finite.cpu().numpy()]
                raise self._error("loss", packs, rows.tolist(), step, "")
        if not self._scaled and not math.isfinite(value := float(norm)):
            rows = [row for pack, _ in seen if packs.packs[pack].counts for row in packs.packs[pack].rows.tolist()]
            raise self._error("gradient", packs, rows, step, f" (its norm is {value})")

    def _error(self, what: str, packs: PackDataset, rows: list[int], step: int, more: str) -> ConfigError:
        ids = list(dict.fromkeys(str(packs.examples[row]["example_id"]) for row in rows))
        named = ", ".join(ids[:_NAMED]) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
        return ConfigError(
            f"{self._section}: the {what} of {named} is not finite at step {step}{more}, so the training has diverged, "
            f"and the step was not taken. Look at these examples, or try a lower {self._section}.learning_rate or more "
            f"{self._section}.warmup"
        )
