"""Later rounds against the second, by hand."""

from __future__ import annotations

import pytest

from seralign.evaluation.label_quality import GeneratedFigures, LabelFigures, MarginFigures, SelectionFigures
from seralign.intervals import Interval
from seralign.studies.cells import Ask, Setting
from seralign.studies.figures import (
    AnswerFigures,
    CellFigures,
    PolicyFigures,
    RankingFigures,
    RoundFigures,
    RoundLabels,
    SplitFigures,
    mean_of,
)  # fmt: skip
from seralign.studies.later_rounds import later_rounds
from seralign.studies.results import _lengths

LENGTHS = {0: [(4.0, 20.0), (0.0, 10.0), (2.0, 16.0)], 1: [(0.0, 10.0), (2.0, 10.0)]}


NO_TRUTH = MarginFigures(None, None, None, None, None)
RANKING = RankingFigures(0.5, 0.0, NO_TRUTH)
NO_LABELS = LabelFigures(0, None, None, None, None, None, None)


def mean(value: Interval | None) -> float:
    assert value is not None
    return value.mean


def answers_of(gold: float, length: float) -> AnswerFigures:
    return AnswerFigures(gold, length, 1.0, 0.0, 0.0)


def round_of(
    gold: float,
    sharp: float,
    kl: float,
    length: float,
    gold_right: float | None = None,
    gold_wrong: float | None = None,
) -> RoundFigures:
    """A round that made pairs where it is given which share of them is right."""
    answers = {"1.0": answers_of(gold, length), "0.2": answers_of(sharp, 1.0)}
    made = (
        None if gold_right is None else GeneratedFigures(9, gold_right, gold_wrong, 0.0, None, None, None, None, None)
    )
    labels = RoundLabels(SelectionFigures(NO_LABELS, NO_LABELS, None), NO_TRUTH, made)
    return RoundFigures(SplitFigures(kl, answers), RANKING, labels)


def test_rounds_against_the_second_of_the_same_seed() -> None:
    rounds = {
        1: {0: round_of(9.0, 9.0, 0.1, 1.0)},
        2: {0: round_of(0.1, 0.5, 1.0, 13.0, gold_right=0.6, gold_wrong=0.2), 1: round_of(0.3, 0.4, 3.0, 10.0)},
        3: {0: round_of(0.2, 0.3, 3.0, 27.0, gold_right=0.5, gold_wrong=0.3), 1: round_of(0.2, 0.4, 9.0, 11.0)},
    }
    found = later_rounds(rounds, LENGTHS)

    assert list(found) == ["round-2", "round-3"]
    assert mean(found["round-2"].gain) == 0.0
    # Seed 0 gains .1 and seed 1 loses .1; at the last temperature they lose .2 and nothing.
    assert mean(found["round-3"].gain) == pytest.approx(0.0)
    gain = found["round-3"].gain
    assert gain is not None
    assert gain.high == pytest.approx(12.706 * 0.1, rel=1e-3)
    assert mean(found["round-3"].gain_sharp) == pytest.approx(-0.1)
    # The baseline has 13 tokens at a KL of 1 and 18 at 3; in seed 1 it has 10 everywhere.
    assert mean(found["round-2"].longer) == pytest.approx(0.0)
    assert mean(found["round-3"].longer) == pytest.approx((0.5 + 0.1) / 2)
    # Seed 1 made no pairs: no mean of both.
    assert found["round-3"].gold_right is None


def test_generated_pairs_are_told_where_every_seed_made_some() -> None:
    rounds = {2: {seed: round_of(0.0, 0.0, 1.0, 10.0, gold_right=right) for seed, right in ((0, 0.5), (1, 0.7))}}

    second = later_rounds(rounds, {})["round-2"]
    assert mean(second.gold_right) == pytest.approx(0.6)
    assert second.gold_wrong is None
    assert second.longer is None


def test_a_baseline_that_is_not_finished_has_no_lengths() -> None:
    def cell(kl: float, length: float) -> CellFigures:
        test = SplitFigures(kl, {"1.0": answers_of(0.0, length)})
        return CellFigures({"round-1": PolicyFigures(test, test, RANKING, {})}, {}, {}, {})

    settings = [
        Setting("dpo", "A", {"beta": 0.1}, Ask("round-1"), cells={0: "a", 1: "b"}),
        Setting("dpo", "A", {"beta": 0.4}, Ask("round-1"), cells={0: "c", 1: "d"}),
        Setting("other", "A", {}, Ask("round-1"), cells={0: "e", 1: "f"}),
    ]
    finished = {"a": cell(1.0, 12.0), "b": cell(1.1, 12.5), "c": cell(0.2, 11.0)}

    assert _lengths(settings, ("dpo",), finished) == {0: [(1.0, 12.0), (0.2, 11.0)]}


def test_the_mean_of_figures_is_taken_number_by_number() -> None:
    """Gold (1 + 2) / 2, KL (3 + 5) / 2; a share that one of them has not is None; no figures have no mean."""
    found = mean_of([round_of(1.0, 0.0, 3.0, 4.0, 0.5, 0.25), round_of(2.0, 1.0, 5.0, 8.0, 1.0)])

    assert found is not None
    assert found.test == SplitFigures(4.0, {"1.0": answers_of(1.5, 6.0), "0.2": answers_of(0.5, 1.0)})
    assert found.labels is not None
    assert found.labels.generated == GeneratedFigures(9, 0.75, None, 0.0, None, None, None, None, None)
    assert mean_of([round_of(1.0, 0.0, 3.0, 4.0), None]) is None
    assert mean_of([]) is None
