"""Conversions between forms of preference. Pure; a conversion happens only where it is asked for.

If an example becomes several, their ids are made from its id: ``ID/0-2`` is the pair of its responses 0 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from seralign.errors import DataError
from seralign.preferences.rules import Which, compared
from seralign.records import Example, Label, Pair, Ranking, Scores


def ranking_to_pairs(example: Example, which: Which = "all") -> list[Example]:
    """Convert a ranking to pairs with p = 1, the better response first. Tied responses form no pair.

    For example, ranks 2, 1, 2, 3 of responses a, b, c, d give with ``all`` the pairs (b, a), (a, d), (b, c), (b, d) and
    (c, d); with ``adjacent``, the pairs of neighbouring ranks, the same without (b, d); with ``best_worst`` (b, d).

    Args:
        example: With a ranking.
        which: ``all`` pairs of responses with different ranks, only those of ``adjacent`` ranks, or the ``best_worst``
            pair: of those that are tied, the first response.

    Returns:
        Pairs, in order of the positions of their responses.

    Raises:
        DataError: The example has another form.
    """
    ranks = _ranking(example).ranks
    return [_pair(example, *both, p=1.0) for both in _better_first([-rank for rank in ranks], which)]


def scores_to_ranking(example: Example) -> Example:
    """Convert scores to a ranking. The highest score has rank 1, equal scores are tied, and no rank is skipped.

    For example, scores 0.5, 2, 0.5, -1 give ranks 2, 1, 2, 3.

    Raises:
        DataError: The example has another form.
    """
    scores = _scores(example).scores
    ranks = {score: rank for rank, score in enumerate(sorted(set(scores), reverse=True), start=1)}
    return replace(example, preference=Ranking(tuple(ranks[score] for score in scores)))


def scores_to_pairs(
    example: Example, scale: float | None = None, least: float = 0.0, which: Which = "all"
) -> list[Example]:
    """Convert scores to pairs of all responses with different scores, the better response first.

    For example, scores 3, 1, 1 give the pairs (0, 1) and (0, 2). With ``scale`` 0.5 their margin of 2 gives
    p = 1 / (1 + exp(-0.5 * 2)) = 0.731059.

    Args:
        example: With scores.
        scale: Log-odds per unit of score: p = sigmoid(scale * margin), as in Bradley-Terry. None: p = 1.
        least: Pairs with a smaller margin are not made. Equal scores never form a pair.
        which: As for ``ranking_to_pairs``.

    Returns:
        Pairs, in order of the positions of their responses.

    Raises:
        DataError: The example has another form.
        ValueError: ``scale`` is not above 0, or ``least`` is below 0.
    """
    if scale is not None and not scale > 0:
        raise ValueError(f"scale must be above 0, got {scale}")
    if least < 0:
        raise ValueError(f"least must be at least 0, got {least}")
    scores = _scores(example).scores
    found = []
    for better, worse in _better_first(scores, which):
        margin = scores[better] - scores[worse]
        if margin >= least:
            p = 1.0 if scale is None else 1.0 / (1.0 + math.exp(-scale * margin))
            found.append(_pair(example, better, worse, p=p))
    return found


def scores_to_labels(example: Example, threshold: float) -> list[Example]:
    """Convert scores to labels, one example a response: desirable if the score is at least ``threshold``.

    For example, scores 3, 1 and the threshold 2 give a desirable ``ID/0`` and an undesirable ``ID/1``.

    Raises:
        DataError: The example has another form.
    """
    return [_labelled(example, at, score >= threshold) for at, score in enumerate(_scores(example).scores)]


def pair_to_labels(example: Example) -> list[Example]:
    """Convert a pair to two labels: the better response is desirable. p = 0.5 gives none. The probability is lost.

    Raises:
        DataError: The example has another form.
    """
    if not isinstance(example.preference, Pair):
        raise _wrong(example, "pair")
    p = example.preference.p
    return [] if p == 0.5 else [_labelled(example, 0, p > 0.5), _labelled(example, 1, p < 0.5)]


def labels_to_pairs(examples: Iterable[Example]) -> Iterator[Example]:
    """Convert labelled responses to pairs: each desirable with each undesirable response to the same prompt, p = 1.

    The weight of a pair is the product of the weights of its two examples, and its id is ``DESIRABLE/UNDESIRABLE``.
    The pair gets the carried columns of the desirable example.

    For example, desirable a and undesirable b, c to one prompt, and desirable d to another prompt, give (a, b) and
    (a, c).

    Args:
        examples: With labels, in any order; all are held in memory.

    Raises:
        DataError: An example has another form.
    """
    ordered = sorted(examples, key=lambda example: example.prompt.prompt_id)
    for _, group in groupby(ordered, key=lambda example: example.prompt.prompt_id):
        own = list(group)
        liked = [_label(example).desirable for example in own]
        for good in (example for example, desirable in zip(own, liked, strict=True) if desirable):
            for bad in (example for example, desirable in zip(own, liked, strict=True) if not desirable):
                yield replace(
                    good,
                    example_id=f"{good.example_id}/{bad.example_id}",
                    responses=(*good.responses, *bad.responses),
                    preference=Pair(),
                    weight=good.weight * bad.weight,
                )


def pair_to_ranking(example: Example) -> Example:
    """Convert a pair to a ranking of two; p = 0.5 is a tie. The probability itself is lost.

    Raises:
        DataError: The example has another form.
    """
    if not isinstance(example.preference, Pair):
        raise _wrong(example, "pair")
    p = example.preference.p
    return replace(example, preference=Ranking((1, 1) if p == 0.5 else (1, 2) if p > 0.5 else (2, 1)))


def _better_first(worth: Sequence[float], which: Which) -> list[tuple[int, int]]:
    """The positions of the better and the worse response of each pair, in order of the positions; ties form none."""
    pairs = compared(dict(enumerate(worth)), which)
    return [
        (one, other) if worth[one] > worth[other] else (other, one)
        for one, other in pairs
        if worth[one] != worth[other]
    ]


def _labelled(example: Example, at: int, desirable: bool) -> Example:
    return replace(
        example,
        example_id=f"{example.example_id}/{at}",
        responses=(example.responses[at],),
        preference=Label(desirable),
    )


def _pair(example: Example, better: int, worse: int, p: float) -> Example:
    return replace(
        example,
        example_id=f"{example.example_id}/{better}-{worse}",
        responses=(example.responses[better], example.responses[worse]),
        preference=Pair(p),
    )


def _ranking(example: Example) -> Ranking:
    if not isinstance(example.preference, Ranking):
        raise _wrong(example, "ranking")
    return example.preference


def _scores(example: Example) -> Scores:
    if not isinstance(example.preference, Scores):
        raise _wrong(example, "scores")
    return example.preference


def _label(example: Example) -> Label:
    if not isinstance(example.preference, Label):
        raise _wrong(example, "label")
    return example.preference


def _wrong(example: Example, wanted: str) -> DataError:
    return DataError(f"example {example.example_id} has the form {example.preference.form}, not {wanted}")
