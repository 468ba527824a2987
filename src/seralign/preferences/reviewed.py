"""Probabilities of labels from the review of a run with ``crossfit``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seralign.errors import ConfigError
from seralign.rewards.crossfit import calibrate, soft_labels
from seralign.runs import read_run
from seralign.runs.files import read_table
from seralign.runs.layout import CROSSFIT, REVIEW


@dataclass(frozen=True)
class Reviewed:
    """The probability that the chosen response of a pair is better, by its id, and what it is of."""

    p: Mapping[str, float]
    basis: str


def read_review(folder: Path, key: str) -> Reviewed:
    """The probabilities from the margins of policies that were not trained on the pair, without the label of the data.

    They are those of the margins alone: ``sigmoid(scale * margin)``, with the scale that fits all labels best.

    Args:
        folder: Of a run.
        key: The flag that names it, for messages.

    Raises:
        ConfigError: The run has not reviewed its data.
        StoreError: It is no run, or damaged.
    """
    run = read_run(folder)
    if not run.exists(CROSSFIT):
        raise ConfigError(f"{key} {folder}: the run has not reviewed its data; give one with crossfit that has done so")
    table = read_table(run.path(CROSSFIT, REVIEW), ["example_id", "margin", "swapped"])
    margins = table["margin"].to_numpy()
    # The review has the margins of pairs with their new labels.
    margins = np.where(table["swapped"].to_numpy(), -margins, margins)
    hard = np.ones(len(margins))
    p = soft_labels(margins, hard, calibrate(margins, hard), trust=0.5)
    basis = f"margins of policies that were not trained on the pair (crossfit of {folder})"
    return Reviewed(dict(zip(table["example_id"].to_pylist(), p.tolist(), strict=True)), basis)
