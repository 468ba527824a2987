"""Whether a method holds up: every later round against the second, the first that reviews data. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from seralign.intervals import mean_interval

# A round's figures in one world seed: ``kl``, ``answers`` by temperature, ``generated`` where it made pairs.
Round = Mapping[str, Any]


def lasting(
    rounds: Mapping[int, Mapping[int, Round]], lengths: Mapping[int, Sequence[tuple[float, float]]]
) -> dict[str, Any]:
    """Every round after the first, against round 2 of the same seed.

    By the name of the round, each an interval over seeds as a dict or None: ``gain`` and ``gain_sharp``, gold less
    that of round 2 at the first and at the last temperature; ``gold_right`` and ``gold_wrong`` of the generated pairs
    that it trained on; ``longer``, by what share its answers are longer than the baseline's at the same KL.

    Args:
        rounds: By number of the round and seed; every round of a seed, or none.
        lengths: By seed the KL and the length of answers of the supervised policy and of the baseline's settings;
            between them length is taken to be linear in KL, beyond the largest KL to stay level.
    """
    second = rounds.get(2, {})
    return {
        f"round-{number}": _against(second, found, lengths) for number, found in sorted(rounds.items()) if number > 1
    }


def _against(
    second: Mapping[int, Round], found: Mapping[int, Round], lengths: Mapping[int, Sequence[tuple[float, float]]]
) -> dict[str, Any]:
    def over(value: Callable[[int], float | None]) -> dict[str, Any] | None:
        values = [value(seed) for seed in found]
        interval = mean_interval([each for each in values if each is not None]) if None not in values else None
        return None if interval is None else interval.to_dict()

    def gain(seed: int, place: int) -> float:
        own, other = (list(each["answers"].values())[place]["gold"] for each in (found[seed], second[seed]))
        return own - other

    def longer(seed: int) -> float | None:
        if seed not in lengths:
            return None
        kls, tokens = zip(*sorted(lengths[seed]), strict=True)
        own = next(iter(found[seed]["answers"].values()))["length"]
        return own / float(np.interp(found[seed]["kl"], kls, tokens)) - 1.0

    return {
        "gain": over(lambda seed: gain(seed, 0)),
        "gain_sharp": over(lambda seed: gain(seed, -1)),
        "gold_right": over(lambda seed: found[seed].get("generated", {}).get("gold_right")),
        "gold_wrong": over(lambda seed: found[seed].get("generated", {}).get("gold_wrong")),
        "longer": over(longer),
    }
