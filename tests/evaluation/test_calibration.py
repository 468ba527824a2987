"""Calibration by hand, and of policies that are and are not calibrated."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.evaluation.calibration import calibration
from seralign.intervals import share_interval
from seralign.runs.calibration import CalibrationFigures
from seralign.runs.figures import EvaluateFigures
from seralign.runs.typed import from_json, to_json

PAIRS = st.lists(st.tuples(st.floats(-20, 20), st.floats(0, 1)), min_size=1, max_size=30)


def found(log_odds: object, labels: object, prompts: list[str] | None = None) -> CalibrationFigures:
    figures = calibration(log_odds, labels, prompts)  # pyright: ignore
    assert figures is not None
    return figures


def test_by_hand() -> None:
    """The example of the docstring: one sure and right, one sure and wrong, one very sure of a tie."""
    figures = found([np.log(3), -np.log(3), np.log(9)], [1, 1, 0.5])
    assert figures.brier.mean == pytest.approx((0.0625 + 0.5625 + 0.16) / 3)
    assert [(one.low, one.predicted, one.observed.mean, one.observed.n) for one in figures.bins] == [
        (0.7, pytest.approx(0.75), 0.5, 2),
        (0.9, pytest.approx(0.9), 0.5, 1),
    ]
    assert figures.ece == pytest.approx(0.3)
    assert figures.bins[0].observed == share_interval([1, 0])


def test_a_policy_that_does_not_know() -> None:
    """Margins of zero say one half; of all pairs, there is nothing to show."""
    figures = found([0.0, 0.0, 1e-9], [1.0, 0.9, 0.5])
    assert figures.brier.mean == pytest.approx((0.25 + 0.16 + 0) / 3)
    assert figures.ece == pytest.approx(0, abs=1e-9)
    assert calibration([0.0, 0.0], [1.0, 0.9]) is None
    assert calibration([], []) is None


@given(PAIRS)
def test_which_response_comes_first_does_not_matter(pairs: list[tuple[float, float]]) -> None:
    odds, labels = np.array(pairs).T
    one, other = calibration(odds, labels), calibration(-odds, 1 - labels)
    if one is None or other is None:
        assert one == other
        return
    assert one.brier.mean == pytest.approx(other.brier.mean)
    assert one.ece == pytest.approx(other.ece)
    assert [part.low for part in one.bins] == [part.low for part in other.bins]
    assert sum(part.observed.n for part in one.bins) == len(pairs)
    assert all(part.low - 1e-9 <= part.predicted <= part.high + 1e-9 for part in one.bins)
    assert 0 <= one.ece <= 1


def test_a_calibrated_policy_and_one_that_is_too_sure() -> None:
    """Labels drawn by the implied probabilities: within the intervals; with three times the log-odds: below."""
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 1.5, 4000)
    labels = (rng.random(4000) < 1 / (1 + np.exp(-odds))).astype(float)
    good, sure = found(odds, labels), found(3 * odds, labels)
    assert good.ece < 0.02
    assert sum(one.observed.low <= one.predicted <= one.observed.high for one in good.bins) >= 4  # pyright: ignore
    assert sure.ece > 0.1
    assert sure.brier.mean > good.brier.mean + 0.02
    assert sure.bins[-1].observed.high < sure.bins[-1].predicted  # pyright: ignore


def test_pairs_of_a_prompt_are_one_group() -> None:
    rng = np.random.default_rng(1)
    odds, labels = np.repeat(rng.normal(0, 1, 40), 5), np.repeat(rng.integers(0, 2, 40), 5)
    names = [str(place) for place in np.repeat(np.arange(40), 5)]
    together, apart = found(odds, labels, names).brier, found(odds, labels).brier
    assert together.mean == apart.mean
    assert together.high - together.low > 1.5 * (apart.high - apart.low)  # pyright: ignore


def test_it_is_kept_in_a_stage() -> None:
    figures = EvaluateFigures("round 1", calibration=found([1.0, -2.0], [1.0, 0.8]))
    assert from_json(EvaluateFigures, to_json(figures)) == figures


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="log_odds must be finite, got nan at index 0"):
        calibration([np.nan], [1.0])
    with pytest.raises(ValueError, match="one value for each pair, got 1 for 2"):
        calibration([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="prompts must have one value for each pair, got 1 for 2"):
        calibration([1.0, 2.0], [1.0, 1.0], ["a"])
    with pytest.raises(ValueError, match=r"labels must be within \[0, 1\], got 1.5"):
        calibration([1.0], [1.5])
