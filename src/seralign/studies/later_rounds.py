"""Later rounds compared with round 2, the first that selects and generates pairs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from seralign.evaluation.label_quality import GeneratedFigures
from seralign.intervals import Interval, mean_interval
from seralign.runs.layout import round_name
from seralign.studies.figures import LaterRound, RoundFigures


def later_rounds(
    rounds: Mapping[int, Mapping[int, RoundFigures]], lengths: Mapping[int, Sequence[tuple[float, float]]]
) -> dict[str, LaterRound]:
    """Every round after the first, against round 2 of the same seed, by the name of the round.

    Args:
        rounds: By number of the round and seed; every round of a seed, or none.
        lengths: By seed the KL and the length of answers of the supervised policy and of the baseline's settings;
            between them length is taken to be linear in KL, beyond the largest KL to stay level.
    """
    second = rounds.get(2, {})
    return {
        round_name(number): _against(second, found, lengths) for number, found in sorted(rounds.items()) if number > 1
    }


def _against(
    second: Mapping[int, RoundFigures],
    found: Mapping[int, RoundFigures],
    lengths: Mapping[int, Sequence[tuple[float, float]]],
) -> LaterRound:
    def over(value: Callable[[int], float | None]) -> Interval | None:
        values = [value(seed) for seed in found]
        return mean_interval([each for each in values if each is not None]) if None not in values else None

    def gain(seed: int, place: int) -> float:
        own, other = (list(each.test.answers.values())[place].gold for each in (found[seed], second[seed]))
        return own - other

    def generated(seed: int) -> GeneratedFigures | None:
        labels = found[seed].labels
        return None if labels is None else labels.generated

    def right(seed: int) -> float | None:
        made = generated(seed)
        return None if made is None else made.gold_right

    def wrong(seed: int) -> float | None:
        made = generated(seed)
        return None if made is None else made.gold_wrong

    def longer(seed: int) -> float | None:
        if seed not in lengths:
            return None
        kls, tokens = zip(*sorted(lengths[seed]), strict=True)
        own = next(iter(found[seed].test.answers.values())).length
        return own / float(np.interp(found[seed].test.kl, kls, tokens)) - 1.0

    return LaterRound(
        gain=over(lambda seed: gain(seed, 0)),
        gain_sharp=over(lambda seed: gain(seed, -1)),
        gold_right=over(right),
        gold_wrong=over(wrong),
        longer=over(longer),
    )
