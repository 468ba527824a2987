"""Which data an objective can be trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import datasets
import numpy as np

from seralign.config.data import PairsOf
from seralign.data.table_columns import example_ids, response_counts
from seralign.errors import ConfigError
from seralign.objectives import OBJECTIVES, ObjectiveSum
from seralign.objectives.base import hard_labels, least_responses
from seralign.records import Form

_PAIRS: dict[str, Form] = dict.fromkeys(get_args(PairsOf), "pair")
CONVERSIONS: Mapping[str, Mapping[str, Form]] = {
    "ranking": _PAIRS,
    "scores": {**_PAIRS, "ranking": "ranking", "labels": "label"},
    "label": {"pairs": "pair"},
    "pair": {"ranking": "ranking", "labels": "label"},
}
"""The settings of ``data.convert`` for each form, and the forms that they make."""


def check_forms(found: Sequence[str], objective: ObjectiveSum, source: str) -> None:
    """Refuse data whose form of preference a term of the objective does not take.

    Args:
        found: The forms of a table's examples.
        objective: What is trained.
        source: Configuration key of the data, such as ``data.pairs``, for messages.

    Raises:
        ConfigError: A term takes another form.
    """
    for term in objective.terms:
        for form in found:
            if form in term.objective.forms:
                continue
            others = [name for name, kind in OBJECTIVES.items() if form in kind.forms]
            ways = [f"give an objective that takes {form} ({', '.join(others)})"] if others else []
            convert = [how for how, made in CONVERSIONS.get(form, {}).items() if made in term.objective.forms]
            ways += [f"set data.convert.{form}: {' or '.join(convert)}"] if convert else []
            raise ConfigError(
                f"objective.name: {term.name} takes {' and '.join(sorted(term.objective.forms))}, but {source} has the "
                f"form {form}; {', or '.join(ways or ['give another objective'])}, or give other data as {source}"
            )


def check_labels(examples: datasets.Dataset, objective: ObjectiveSum, source: str) -> None:
    """Refuse soft labels if a term of the objective has no form for them.

    Args:
        examples: Pairs.
        objective: What is trained.
        source: Configuration key of the data, such as ``data.pairs``, for messages.

    Raises:
        ConfigError: A label is neither 0 nor 1.
    """
    names = [term.name for term in objective.terms if hard_labels(term.objective)]
    if not names or not len(examples):
        return
    labels = np.array([stored[0] for stored in examples["preference"]])
    soft = np.flatnonzero((labels > 0) & (labels < 1))
    if len(soft):
        first = int(soft[0])
        raise ConfigError(
            f"objective.name: {names[0]} has no form for soft labels, and {source} has {len(soft)}: p of example "
            f"{example_ids(examples)[first]} is {labels[first]:g}; give another objective, or labels of 0 and 1"
        )


def check_responses(examples: datasets.Dataset, objective: ObjectiveSum, source: str) -> None:
    """Refuse examples with fewer responses than a term of the objective needs.

    Args:
        examples: Of any form.
        objective: What is trained.
        source: Configuration key of the data, such as ``data.pairs``, for messages.

    Raises:
        ConfigError: An example has fewer.
    """
    term = max(objective.terms, key=lambda term: least_responses(term.objective))
    counts, least = response_counts(examples), least_responses(term.objective)
    few = np.flatnonzero(counts < least)
    if len(few):
        first = int(few[0])
        raise ConfigError(
            f"objective.name: {term.name} needs {least} ranked responses of each prompt, and {len(few)} of "
            f"{len(counts)} examples of {source} have fewer: {example_ids(examples)[first]} has {counts[first]}; give "
            f"rankings of {least} or more, or another objective"
        )
