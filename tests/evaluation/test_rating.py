"""Bradley and Terry's ratings by hand, against their likelihood's equations, and against known strengths."""

import numpy as np
import pytest

from seralign.evaluation.rating import ratings, win_matrix
from seralign.intervals import share_interval


def compare(strengths: list[float], prompts: int, seed: int) -> tuple[list[str], list[str], np.ndarray, list[str]]:
    """Every couple of policies on every prompt, each decided by the strengths alone."""
    rng, first, second, better, names = np.random.default_rng(seed), [], [], [], []
    for prompt in range(prompts):
        for own in range(len(strengths)):
            for other in range(own):
                chance = 1 / (1 + np.exp(strengths[other] - strengths[own]))
                first.append(f"p{own}")
                second.append(f"p{other}")
                better.append(float(rng.random() < chance))
                names.append(str(prompt))
    return first, second, np.array(better), names


def test_two_policies_by_hand() -> None:
    """Three wins and one loss, with half a win more for each: log(3.5 / 1.5); against the anchor."""
    found = ratings(["a"] * 4, ["b"] * 4, [1, 1, 1, 0], list("1234"), anchor="b", samples=50)
    assert [rating.policy for rating in found] == ["a", "b"]
    assert found[0].strength.mean == pytest.approx(np.log(3.5 / 1.5))
    assert found[0].win_rate.mean == pytest.approx(0.7)
    assert found[1].strength.mean == 0
    soft = ratings(["a", "b"] * 2, ["b", "a"] * 2, [0.75, 0.25] * 2, list("1234"), anchor="b", samples=50)
    assert soft[0].strength.mean == pytest.approx(np.log(3.5 / 1.5))
    assert found[0].strength.n == 4


def test_a_circle_is_a_draw() -> None:
    found = ratings(list("abc"), list("bca"), [1, 1, 1], list("123"), samples=50)
    assert [rating.strength.mean for rating in found] == pytest.approx([0, 0, 0], abs=1e-6)
    assert [rating.win_rate.mean for rating in found] == pytest.approx([0.5] * 3, abs=1e-6)


def test_expected_wins_are_the_observed_ones() -> None:
    """The equations of the likelihood: each policy's wins are the sum of its chances, the half wins counted."""
    first, second, better, names = compare([1.0, 0.2, 0.0, -1.5], 40, 0)
    found = {rating.policy: rating.strength.mean for rating in ratings(first, second, better, names, samples=20)}
    assert sum(found.values()) == pytest.approx(0, abs=1e-9)
    for name in found:
        won, hoped = 0.0, 0.0
        for own, other, outcome in zip(first, second, better, strict=True):
            if name in (own, other):
                rival = other if own == name else own
                won += outcome if own == name else 1 - outcome
                hoped += 1 / (1 + np.exp(found[rival] - found[name]))
        won += 3 * 0.5
        hoped += sum(1 / (1 + np.exp(found[rival] - found[name])) for rival in found if rival != name)
        assert won == pytest.approx(hoped, abs=1e-4)


def test_known_strengths_are_found() -> None:
    strengths = [0.8, 0.3, -0.1, -1.0]
    found = ratings(*compare(strengths, 300, 1), samples=400)
    assert [rating.policy for rating in found] == ["p0", "p1", "p2", "p3"]
    for rating, strength in zip(found, strengths, strict=True):
        assert rating.strength.low is not None
        assert rating.strength.high is not None
        assert rating.strength.low < strength < rating.strength.high
        assert rating.strength.high - rating.strength.low < 0.4
        assert rating.strength.n == 900


def test_a_policy_that_always_wins_has_a_finite_rating() -> None:
    """It leads two equal ones by log(9.5 / 0.5), of which two thirds are above the mean of the three."""
    found = ratings(["a", "a", "b"] * 9, ["b", "c", "c"] * 9, [1, 1, 0.5] * 9, list("123456789") * 3, samples=100)
    assert found[0].policy == "a"
    assert found[0].strength.mean == pytest.approx(np.log(9.5 / 0.5) * 2 / 3)


@pytest.mark.parametrize(
    ("better", "has_interval"),
    [([1.0, 0.0], False), ([0.0] * 50, False), ([1.0] + [0.0] * 49, False), ([0.5] * 50, False),
     ([1.0, 0.5, 0.5] + [0.0] * 7, True), ([1.0, 1.0] + [0.0] * 7, False), ([1.0, 1.0] + [0.0] * 8, True)],
)  # fmt: skip
def test_too_few_outcomes_give_no_interval(better: list[float], has_interval: bool) -> None:
    """Samples of 4 lost prompts are all alike: an interval of them would have no width."""
    count = len(better)
    found = ratings(["a"] * count, ["b"] * count, better, [str(at) for at in range(count)], samples=50)
    for rating in found:
        for figure in (rating.strength, rating.win_rate):
            assert ((figure.low is None), (figure.high is None)) == (not has_interval, not has_interval)


def test_wins_on_one_prompt_are_one_win() -> None:
    """A policy that wins four times on one of 20 prompts has a single win, so no interval; the others have theirs."""
    first, second, better, prompts = compare([0.0, 0.0], 20, 3)
    more = [str(at) for at in range(20) for _ in range(4)]
    won = np.repeat([1.0] + [0.0] * 19, 4)
    found = ratings([*first, *["c"] * 80], [*second, *["p0"] * 80], [*better, *won], [*prompts, *more], samples=50)
    assert {rating.policy: rating.strength.low is not None for rating in found} == {"p0": True, "p1": True, "c": False}


def test_win_matrix() -> None:
    first, second = ["a", "b", "a", "a"], ["b", "a", "b", "c"]
    found = win_matrix(first, second, [1, 0, 0.5, 1], ["1", "1", "2", "1"])
    assert found.policies == ("a", "b", "c")
    assert found.rates[0][1] == share_interval([1, 0.5, 1], ["1", "2", "1"])
    assert found.rates[1][0] == share_interval([0, 0, 0.5], ["1", "1", "2"])
    assert found.rates[0][0] is None
    assert found.rates[1][2] is None


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="no chain of comparisons connects 'a' with 'c'"):
        ratings(["a", "c"], ["b", "d"], [1, 1], ["1", "2"])
    with pytest.raises(ValueError, match="'b' is compared with itself"):
        win_matrix(["a", "b"], ["b", "b"], [1, 1], ["1", "2"])
    with pytest.raises(ValueError, match="anchor must be one of a, b, got 'z'"):
        ratings(["a"], ["b"], [1], ["1"], anchor="z")
    with pytest.raises(ValueError, match="no comparison"):
        ratings([], [], [], [])
    with pytest.raises(ValueError, match=r"within \[0, 1\], got 2.0"):
        ratings(["a"], ["b"], [2], ["1"])
    with pytest.raises(ValueError, match="equally long, got 1, 1, 2 and 1"):
        ratings(["a"], ["b"], [1], ["1", "2"])
