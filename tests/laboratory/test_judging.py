"""Judges in worlds: injected biases are found again, and corrected where they can be."""

import numpy as np
import pytest

from seralign.config import WorldConfig
from seralign.evaluation.judge_calibration import Judged, judge_calibration, rate_checks
from seralign.evaluation.judges import Comparison, Verdict
from seralign.intervals import Interval, outcomes, share_interval
from seralign.laboratory.judging import Contest, JudgeBias, SimulatedJudge, draw_contest, pooled
from seralign.laboratory.world import GRAMMARS

WORLD = GRAMMARS["elaborations"](WorldConfig(name="elaborations"))


@pytest.fixture(scope="module")
def contest() -> Contest:
    return draw_contest(WORLD, 600, 0)


def judge(contest: Contest, bias: JudgeBias, seed: int = 1) -> dict[str, Judged]:
    judge = SimulatedJudge(WORLD, bias, contest.scale, seed)
    return contest.judged({
        name: [verdict for _, verdict in judge.judge(asked)] for name, asked in contest.comparisons.items()
    })  # fmt: skip


def holds(interval: Interval | None, truth: float) -> bool:
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= truth <= interval.high


def test_the_truth_of_the_policies(contest: Contest) -> None:
    gold = {name: float(outcomes(values, np.zeros(600)).mean()) for name, values in contest.gold.items()}
    assert gold["better"] > 0.6
    assert gold["worse"] < 0.4
    assert 0.42 < gold["longer"] < 0.58
    assert 0.42 < gold["shorter"] < 0.58
    assert contest.longer["longer"].mean() > 20
    assert contest.longer["shorter"].mean() < -10
    comparison = contest.comparisons["better"][3]
    scores = [WORLD.score([comparison.prompt.text], [text])[0] for text in (comparison.first, comparison.second)]
    assert contest.gold["better"][3] == scores[0] - scores[1]


@pytest.mark.parametrize("bias", [JudgeBias(1.0, 0.7, 0.0), JudgeBias(0.5, -0.4, 1.2)])
def test_injected_biases_are_found(contest: Contest, bias: JudgeBias) -> None:
    """All three effects in log-odds: without bias over eight judges, and within their intervals."""
    found = [judge_calibration(pooled(judge(contest, bias, seed)), samples=50) for seed in range(8)]
    truths = (bias.gold * WORLD.points, bias.length, bias.position)
    held = []
    for at, truth in enumerate(truths):
        intervals = [(one.gold_effect, one.length_effect, one.position_effect)[at] for one in found]
        means = [interval.mean for interval in intervals if interval is not None]
        assert np.mean(means) == pytest.approx(truth, abs=3.5 * np.std(means, ddof=1) / np.sqrt(8))
        assert np.std(means) < 0.4
        held += [holds(interval, truth) for interval in intervals]
    assert sum(held) >= 19  # of 24; 95% of them are 22.8
    assert not any(holds(one.position_effect, bias.position + 0.5) for one in found)
    assert (found[0].comparisons, found[0].unread) == (2400, 0)


def test_accuracy_grows_with_the_gap(contest: Contest) -> None:
    found = judge_calibration(pooled(judge(contest, JudgeBias(1.0))), samples=20)
    means = [part.accuracy.mean for part in found.by_gap]
    assert len(means) >= 3
    assert means == sorted(means)
    assert all(part.largest < after.smallest for part, after in zip(found.by_gap, found.by_gap[1:], strict=False))
    # It is right on a gap of k points with probability sigmoid(k).
    gaps = np.abs(np.concatenate(list(contest.gold.values())))
    for part in found.by_gap:
        here = gaps[(gaps >= part.smallest) & (gaps <= part.largest)]
        assert part.accuracy.mean == pytest.approx((1 / (1 + np.exp(-WORLD.points * here))).mean(), abs=0.02)
    assert found.by_gap[0].smallest == 0.25


def test_what_biases_do_to_win_rates(contest: Contest) -> None:
    """Both orders take the position out; length control takes the length out, and leaves the unbiased judge's rate."""
    biased = {check.policy: check for check in rate_checks(judge(contest, JudgeBias(1.0, 0.8, 1.5)), samples=200)}
    clean = {check.policy: check for check in rate_checks(judge(contest, JudgeBias(1.0), 2), samples=20)}
    for name in ("better", "longer"):
        first, second, both = biased[name].shown_first, biased[name].shown_second, biased[name].both
        assert first is not None
        assert second is not None
        assert both is not None
        assert first.mean > both.mean + 0.08 > second.mean + 0.16
        assert both.mean == pytest.approx((first.mean + second.mean) / 2)
    for name, check in clean.items():
        assert check.both is not None
        assert holds(biased[name].controlled, check.both.mean)
    assert not holds(biased["longer"].both, biased["longer"].gold.mean)
    assert holds(biased["longer"].controlled, biased["longer"].gold.mean)
    assert biased["longer"].gold == share_interval(
        outcomes(contest.gold["longer"], np.zeros(600)), [one.prompt.prompt_id for one in contest.comparisons["longer"]]
    )


def test_by_hand() -> None:
    """One right in both orders, one in one order, one wrong, one without gold difference and one unread."""
    judged = Judged(
        list("abcde"),
        [1.0, 0.5, 1.0, 0.0, None],
        [(1.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0), None],
        np.array([0.5, 0.25, -0.25, 0.0, 0.5]),
        np.zeros(5),
    )
    found = judge_calibration(judged, samples=20)
    assert (found.comparisons, found.unread) == (5, 1)
    assert found.accuracy == share_interval([1, 0.5, 0])
    assert [(part.smallest, part.accuracy.mean) for part in found.by_gap] == [(0.25, 0.25), (0.5, 1.0)]
    assert found.length_effect is None
    (check,) = rate_checks({"p": judged}, samples=20)
    assert check.gold == share_interval([1, 1, 0, 0.5, 1])
    assert check.both == share_interval([1, 0.5, 1, 0])
    assert check.shown_first == share_interval([1, 1, 1, 0])
    assert check.shown_second == share_interval([1, 0, 1, 0])


@pytest.mark.parametrize(("prompts", "known"), [(9, False), (10, True)])
def test_effects_of_few_prompts_have_no_interval(prompts: int, known: bool) -> None:
    """Of 40 comparisons in all cases: it is the prompts that count."""
    rng = np.random.default_rng(0)
    gold, longer, names = rng.normal(size=40), rng.normal(size=40), [str(at % prompts) for at in range(40)]
    better = 1 / (1 + np.exp(-gold))
    found = judge_calibration(Judged(names, better.tolist(), [(one, one) for one in better], gold, longer))
    for effect in (found.gold_effect, found.length_effect, found.position_effect):
        assert effect is not None
        assert (effect.low is not None) == known
    assert found.accuracy is not None
    assert found.accuracy.low is not None


def test_a_judge_that_is_asked_one_order() -> None:
    judged = Judged(list("ab"), [1.0, 0.0], [None, None], np.array([1.0, -1.0]), np.array([3.0, -1.0]))
    found = judge_calibration(judged, samples=20)
    assert found.accuracy is not None
    assert found.accuracy.mean == 1.0
    assert (found.position_bias, found.position_effect, found.self_agreement) == (None, None, None)
    (check,) = rate_checks({"p": judged}, samples=20)
    assert (check.shown_first, check.shown_second) == (None, None)


def test_nothing_could_be_read() -> None:
    judged = Judged(["a"], [None], [None], np.array([1.0]), np.array([1.0]))
    found = judge_calibration(judged, samples=20)
    assert (found.unread, found.accuracy, found.by_gap, found.gold_effect) == (1, None, (), None)
    (check,) = rate_checks({"p": judged}, samples=20)
    assert (check.both, check.controlled) == (None, None)


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match=r"equally long, got \[1, 2\]"):
        Judged(["a"], [1.0], [None], np.zeros(2), np.zeros(1))


def test_the_simulated_judge_depends_on_its_seed(contest: Contest) -> None:
    asked = contest.comparisons["better"][:50]

    def verdicts(seed: int) -> list[tuple[Comparison, Verdict]]:
        return list(SimulatedJudge(WORLD, JudgeBias(), contest.scale, seed).judge(asked))

    assert verdicts(0) == verdicts(0) != verdicts(1)
    assert [comparison for comparison, _ in verdicts(0)] == asked
    assert SimulatedJudge(WORLD, JudgeBias(), 1.0, 0).identity != SimulatedJudge(WORLD, JudgeBias(1.0), 1.0, 0).identity
