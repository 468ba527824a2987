"""Figures of verdicts by hand, and a judge of known position bias."""

import math

import numpy as np
import pytest

from seralign.evaluation.verdict_figures import verdict_figures
from seralign.intervals import share_interval


def test_by_hand() -> None:
    """A win, a tie by contradiction, a loss, no verdict, and a win of one tie that was asked in both orders."""
    better = [1.0, 0.5, 0.0, None, 0.75]
    orders = [(1.0, 1.0), (1.0, 0.0), (0.0, 0.0), None, (1.0, 0.5)]
    found = verdict_figures(better, orders)
    assert (found.comparisons, found.unread) == (5, 1)
    assert found.win_rate == share_interval([1, 0.5, 0, 0.75])
    assert found.tie_rate == share_interval([0, 1, 0, 0])
    # The first place won 1/2, 1, 1/2 and (1 + 1/2) / 2 of two questions.
    assert found.position_bias is not None
    assert found.position_bias.mean == pytest.approx((0.5 + 1 + 0.5 + 0.75) / 4 - 0.5)
    assert found.self_agreement is not None
    assert found.self_agreement.mean == pytest.approx((1 + 0 + 1 + 0.5) / 4)


def test_the_interval_of_position_bias_is_that_of_the_first_places_share() -> None:
    found = verdict_figures([0.5] * 10, [(1.0, 0.0)] * 10)
    share = share_interval([1.0] * 10)
    assert share is not None
    assert share.low is not None
    assert found.position_bias is not None
    assert (found.position_bias.mean, found.position_bias.low) == (0.5, share.low - 0.5)


def test_only_one_order_asked() -> None:
    found = verdict_figures([1.0, 0.0], [None, None])
    assert found.position_bias is None
    assert found.self_agreement is None
    assert verdict_figures([1.0, 0.0]) == found


def test_no_verdict_at_all() -> None:
    found = verdict_figures([None, math.nan])
    assert (found.comparisons, found.unread, found.win_rate, found.tie_rate) == (2, 2, None, None)
    assert verdict_figures([]).comparisons == 0


def test_verdicts_on_one_prompt_are_one_group() -> None:
    rng = np.random.default_rng(0)
    better = np.repeat(rng.integers(0, 2, 40).astype(float), 5)
    names = [str(place) for place in np.repeat(np.arange(40), 5)]
    apart, together = verdict_figures(better), verdict_figures(better, prompts=names)
    assert apart.win_rate is not None
    assert together.win_rate == share_interval(better, names)
    assert together.win_rate != apart.win_rate


@pytest.mark.parametrize("bias", [-0.2, 0.0, 0.1])
def test_a_known_bias_is_found(bias: float) -> None:
    """The judge prefers the first place by ``bias`` on top of what it sees, in both orders."""
    seen = np.random.default_rng(1).uniform(0.3, 0.7, 4000)
    drawn = np.random.default_rng(2).random((4000, 2)) < np.stack([seen + bias, seen - bias], 1)
    orders = [(float(given), float(swapped)) for given, swapped in drawn]
    found = verdict_figures(drawn.mean(1), orders)
    assert found.position_bias is not None
    assert found.position_bias.low is not None
    assert found.position_bias.high is not None
    assert found.position_bias.low <= bias <= found.position_bias.high
    assert found.position_bias.high - found.position_bias.low < 0.04


def test_nearly_one_half_is_a_tie() -> None:
    found = verdict_figures([(0.1 + 0.2 + 0.7) / 2 + 1e-16, 0.500001])
    assert found.tie_rate is not None
    assert found.tie_rate.mean == 0.5


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="orders must have one value for each comparison, got 1 for 2"):
        verdict_figures([1.0, 0.0], [(1.0, 1.0)])
    with pytest.raises(ValueError, match="prompts must have one value for each comparison, got 1 for 2"):
        verdict_figures([1.0, 0.0], prompts=["a"])
    with pytest.raises(ValueError, match=r"within \[0, 1\]"):
        verdict_figures([1.5])
