"""Length control against scipy, known truths, and AlpacaEval's published rates."""

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.length_control import OUTCOMES, agreements, read_leaderboard, read_outcomes
from seralign.evaluation.difficulty import Outcomes, length_term, prompt_difficulty
from seralign.evaluation.length_control import length_control, length_controls
from seralign.intervals import Interval, share_interval

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def chance(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def draw(theta: float, phi: float, ease: np.ndarray, seed: int, shift: float = 0.0) -> Outcomes:
    """A policy of known strength and effect of length; ``shift``: how much longer its responses are."""
    rng = np.random.default_rng(seed)
    longer = rng.normal(shift, 300, len(ease))
    better = rng.random(len(ease)) < chance(theta + phi * length_term(longer) + ease)
    return Outcomes([str(place) for place in range(len(ease))], better.astype(float), longer)


def found(interval: Interval | None) -> tuple[float, float, float]:
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.mean, interval.high


def test_the_fit_is_scipys() -> None:
    """The penalised likelihood of strength and length, maximised by scipy; soft outcomes."""
    rng = np.random.default_rng(0)
    better, longer = rng.random(60), rng.normal(200, 400, 60)
    term = np.tanh(longer / longer.std(ddof=1))

    def loss(at: np.ndarray) -> float:
        odds = at[0] + at[1] * term
        fit = np.logaddexp(0, odds).sum() - (better * odds).sum()
        return fit + 0.01 / 2 * at[0] ** 2 + 0.1 / 2 * at[1] ** 2

    best = scipy.optimize.minimize(loss, np.zeros(2), tol=1e-12).x
    control = length_control(Outcomes([str(place) for place in range(60)], better, longer), samples=20)
    assert found(control.length_effect)[1] == pytest.approx(best[1], abs=1e-5)
    assert found(control.controlled)[1] == pytest.approx(1 / (1 + np.exp(-best[0])), abs=1e-6)
    assert control.win_rate == share_interval(better)
    assert control.other_policies == 0
    assert control.unfitted_standard_error == pytest.approx(0, abs=1e-12)  # one prediction for all prompts


def test_equally_long_responses_need_no_control() -> None:
    """Win rate 3/4 of 400; the weak prior moves it by less than a tenth of a point."""
    control = length_control(Outcomes([str(place) for place in range(400)], [1, 1, 1, 0] * 100, [0] * 400))  # pyright: ignore
    low, mean, high = found(control.controlled)
    assert mean == pytest.approx(0.75, abs=1e-3)
    # Student's standard error of a share: sqrt(0.75 * 0.25 / 400) = 0.0217.
    assert (low, high) == pytest.approx((0.75 - 1.966 * 0.0217, 0.75 + 1.966 * 0.0217), abs=0.006)
    assert control.standard_error == pytest.approx(0.0217, rel=0.1)
    assert found(control.length_effect)[1] == pytest.approx(0, abs=1e-6)


def test_a_known_effect_of_length_is_taken_out() -> None:
    """Equal policies, of which one writes 300 more and the judge likes length: plain over one half, controlled not."""
    ease = np.random.default_rng(1).normal(0, 1, 800)
    others = [draw(theta, 1.5, ease, seed) for seed, theta in enumerate([-1.0, -0.5, 0.0, 0.5, 1.0, 0.3])]
    control = length_control(draw(0.0, 1.5, ease, 9, shift=300), others, samples=400)
    truth = float(chance(ease).mean())
    assert found(control.win_rate)[0] > truth + 0.05
    low, _, high = found(control.controlled)
    assert low < truth < high
    assert high - low < 0.12
    low, _, high = found(control.length_effect)
    assert low < 1.5 < high
    assert control.other_policies == 6
    assert control.standard_error is not None
    assert control.unfitted_standard_error is not None
    assert control.standard_error > 1.3 * control.unfitted_standard_error


def test_difficulty_is_that_of_the_prompts() -> None:
    ease = np.random.default_rng(2).normal(0, 1, 500)
    policies = [draw(theta, 1.0, ease, seed, 200) for seed, theta in enumerate(np.linspace(-1, 1, 12))]
    difficulty = prompt_difficulty(policies)
    values = np.array([difficulty.ease[str(place)] for place in range(500)])
    assert np.corrcoef(values, ease)[0, 1] > 0.8
    assert values.mean() == pytest.approx(0, abs=0.05)
    assert difficulty.length is not None
    assert difficulty.length.mean == pytest.approx(1.0, abs=0.15)
    assert difficulty.length.precision > 20  # all policies have the same effect
    again = prompt_difficulty(policies[::-1])
    assert [again.ease[name] for name in difficulty.ease] == pytest.approx(list(difficulty.ease.values()), abs=1e-3)


def test_a_prompt_of_one_policy_alone_by_hand() -> None:
    """Both won everything but the prompt b: the equations of the penalised likelihood hold for its ease."""
    one = Outcomes(["a", "b"], [1.0, 0.0], [0.0, 0.0])  # pyright: ignore
    difficulty = prompt_difficulty([one, one])
    assert difficulty.length is None
    gamma = difficulty.ease["a"]
    # By symmetry theta is 0, and gamma = 2 (1 - sigmoid(gamma)).
    assert gamma == pytest.approx(2 * (1 - 1 / (1 + np.exp(-gamma))), abs=1e-4)
    assert difficulty.ease["b"] == pytest.approx(-gamma, abs=1e-4)


def test_outcomes_of_one_prompt_are_one_cluster() -> None:
    single = draw(0.3, 1.0, np.zeros(60), 3)
    repeated = Outcomes(list(np.repeat(single.prompts, 4)), np.repeat(single.better, 4), np.repeat(single.longer, 4))
    once, often = length_control(single, samples=200), length_control(repeated, samples=200)
    assert once.standard_error == pytest.approx(often.standard_error, rel=0.1)


def test_a_policy_that_wins_everything_has_no_interval_but_that_of_its_win_rate() -> None:
    """Every sample is won, so their spread would say nothing of the chance that the next prompt is lost."""
    control = length_control(Outcomes([str(at) for at in range(30)], np.ones(30), np.arange(30.0)), samples=50)
    assert control.controlled is not None
    assert control.length_effect is not None
    assert 0.5 < control.controlled.mean < 1
    assert (control.controlled.low, control.controlled.high, control.length_effect.low) == (None, None, None)
    assert (control.standard_error, control.unfitted_standard_error) == (None, None)
    assert control.win_rate.low == pytest.approx(share_interval(np.ones(30)).low)  # pyright: ignore


def test_an_interval_needs_ten_prompts() -> None:
    better = np.array([1, 0] * 5, np.float64)
    longer = np.array([3, -1, 4, 1, -5, 9, -2, 6, 5, 3.5])
    names = [str(at) for at in range(10)]
    for count, low in ((9, None), (10, True)):
        control = length_control(Outcomes(names[:count], better[:count], longer[:count]), samples=50).controlled
        assert control is not None
        assert (control.low is None) == (low is None)


def test_equal_differences_cannot_be_told_from_strength() -> None:
    control = length_control(Outcomes(list("abcd"), np.array([1, 0, 1, 1.0]), np.full(4, 50.0)))
    assert (control.controlled, control.length_effect, control.standard_error) == (None, None, None)
    assert control.win_rate.mean == 0.75


def test_one_prompt_has_no_interval() -> None:
    control = length_control(Outcomes(["a"], np.array([0.7]), np.array([0.0])))
    assert control.controlled is not None
    assert control.controlled.low is None
    assert control.standard_error is None


def test_several_policies_at_once() -> None:
    ease = np.random.default_rng(4).normal(0, 1, 80)
    policies = {name: draw(0.1, 1.0, ease, seed) for seed, name in enumerate("abc")}
    together = length_controls(policies, samples=50)
    assert together["b"] == length_control(policies["b"], [policies["a"], policies["c"]], samples=50)


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="equally long, got 1, 2 and 2"):
        Outcomes(["a"], np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match=r"better must be within \[0, 1\], got 1.0 to 2.0"):
        Outcomes(["a", "b"], np.array([1.0, 2.0]), np.ones(2))
    with pytest.raises(ValueError, match="longer must be finite, got nan at index 0"):
        Outcomes(["a"], np.ones(1), np.array([np.nan]))
    with pytest.raises(ValueError, match="at least one outcome"):
        length_control(Outcomes([], np.empty(0), np.empty(0)))
    with pytest.raises(ValueError, match="at least one policy"):
        prompt_difficulty([])


@pytest.mark.real
def test_alpaca_evals_rates() -> None:
    """38 models' outcomes: the plain rates are the published ones, and the length-controlled ones are near them."""
    if not (DATA / OUTCOMES).exists():
        pytest.skip(f"{DATA / OUTCOMES} is not there")
    outcomes, published = read_outcomes(DATA), read_leaderboard(DATA)
    controls = length_controls(outcomes, samples=200)
    for model, control in controls.items():
        assert 100 * control.win_rate.mean == pytest.approx(published[model].win_rate, abs=0.01)
    plain, ours, plain_aside, aside, apart, _ = agreements(outcomes, controls, published)
    assert (plain.models, round(plain.error, 1), round(plain.rank, 3)) == (38, 5.0, 0.963)
    assert ours.error < 1.2
    assert ours.rank > 0.985
    assert plain_aside.error > 4
    assert (aside.models, apart.models) == (19, 19)
    assert max(aside.error, apart.error) < 1.7
    assert min(aside.rank, apart.rank) > 0.97
    for model in ("vicuna-13b-v1.5-togetherai", "FuseChat-Llama-3.1-8B-Instruct"):
        control, error = controls[model], published[model].controlled_error
        assert control.standard_error is not None
        assert control.unfitted_standard_error is not None
        assert error is not None
        # The published standard error is about the one without the fit, and half of the one with it.
        assert 100 * control.unfitted_standard_error == pytest.approx(error, rel=0.2)
        assert 100 * control.standard_error > 1.8 * error
