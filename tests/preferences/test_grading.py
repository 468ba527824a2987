"""From votes and scores to probabilities: hand-worked numbers, and reliabilities that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seralign.errors import DataError
from seralign.preferences.combining import Combiner, calibration, features, make_combiner
from seralign.preferences.config import CombineConfig
from seralign.preferences.grading import Grader, graded_scores, make_grader, win_shares
from seralign.preferences.opinions import SUREST, Ballot, Compared, Graded, Scored, from_json, to_json
from seralign.preferences.reliability import Reliability, dawid_skene, posterior, strengths
from seralign.preferences.signals.comparison import Comparison
from seralign.preferences.signals.votes import Votes

ACCURACIES = {"ann": 0.95, "bob": 0.8, "cy": 0.7, "dee": 0.5}


def vote(chosen: int, annotator: str, first: int = 0, second: int = 1) -> Ballot:
    return Ballot(first, second, 1.0 - chosen, 1.0, annotator)


def noisy_votes(count: int, better: int | None = None) -> list[tuple[Ballot, ...]]:
    """Votes of annotators with known accuracies on pairs whose better response is drawn, or always the same."""
    random = np.random.default_rng(3)
    rows = []
    for _ in range(count):
        truth = random.integers(2) if better is None else better
        right = {name: random.random() < accuracy for name, accuracy in ACCURACIES.items()}
        rows.append(tuple(vote(int(truth if right[name] else 1 - truth), name) for name in ACCURACIES))
    return rows


def test_scores_become_probabilities_by_a_temperature() -> None:
    graded = graded_scores(Scored((3.0, 1.0, None, 3.0)), 2.0)
    assert graded.p == pytest.approx({(0, 1): 1 / (1 + math.exp(-1)), (0, 3): 0.5, (1, 3): 1 / (1 + math.e)})
    assert graded.worth == (3.0, 1.0, None, 3.0)
    assert graded.margin(1, 3) == 2.0
    assert graded_scores(Scored((3.0, 1.0, 3.0)), None).p == {(0, 1): 1.0, (0, 2): 0.5, (1, 2): 0.0}
    assert graded_scores(Scored((1e30, -1e30)), 1e-30).p == {(0, 1): 1.0}


def test_votes_are_smoothed() -> None:
    grader = make_grader(Votes(prior=0.5), [])
    # 3 of 4 votes: (3 + 0.5) / (4 + 1).
    assert grader.grade(2, Compared((Ballot(0, 1, 0.75, 4.0),))).p == {(0, 1): 0.7}
    # 2 ballots for response 1, given the other way round, and 1 against.
    ballots = (Ballot(1, 0, 1.0), Ballot(1, 0, 1.0), Ballot(0, 1, 1.0))
    graded = grader.grade(3, Compared(ballots))
    assert graded.p == {(0, 1): pytest.approx(1.5 / 4)}
    assert graded.worth == (pytest.approx(0.375), pytest.approx(0.625), None)
    assert graded.margin(0, 1) == pytest.approx(0.25)


def test_comparisons_and_verdicts_are_taken_as_they_are() -> None:
    assert Grader(Comparison()).grade(2, Compared((Ballot(1, 0, 0.9),))).p == {(0, 1): pytest.approx(0.1)}


def test_win_shares_are_means_over_what_was_compared() -> None:
    assert win_shares(4, {(0, 1): 1.0, (0, 2): 0.6, (1, 2): 0.5}) == (0.8, 0.25, 0.45, None)


def test_the_posterior_weighs_annotators_by_their_odds() -> None:
    accuracy = {"ann": 0.9, "bob": 0.6}
    assert posterior([vote(0, "ann"), vote(1, "bob")], accuracy) == pytest.approx(6 / 7)
    assert posterior([vote(0, "nobody")], accuracy) == 0.5
    assert posterior([], accuracy) == 0.5


@pytest.mark.parametrize("better", [None, 0], ids=["any-order", "better-one-first"])
def test_dawid_skene_finds_the_accuracies(better: int | None) -> None:
    found = {one.name: one for one in dawid_skene(noisy_votes(2000, better), prior=1.0)}
    assert {name: one.accuracy for name, one in found.items()} == pytest.approx(ACCURACIES, abs=0.04)
    assert {one.count for one in found.values()} == {2000}


def test_an_annotator_with_one_ballot_is_not_taken_for_infallible() -> None:
    rows = [*noisy_votes(300), (vote(0, "ann"), vote(0, "bob"), vote(0, "new"))]
    found = {one.name: one.accuracy for one in dawid_skene(rows, prior=1.0)}
    # One right ballot of one, and the prior: (1 + 1) / (1 + 2).
    assert found["new"] == pytest.approx(2 / 3, abs=0.01)


def test_dawid_skene_is_better_than_counting() -> None:
    random = np.random.default_rng(0)
    rows, truths = [], []
    for _ in range(1000):
        truth = int(random.integers(2))
        names = {"expert": 0.95, "a": 0.6, "b": 0.6, "c": 0.6}
        rows.append(tuple(vote(truth if random.random() < p else 1 - truth, name) for name, p in names.items()))
        truths.append(truth)
    signal = Votes(method="dawid_skene")
    grader = make_grader(signal, [Compared(row) for row in rows])
    weighed = [grader.grade(2, Compared(row)).p[0, 1] < 0.5 for row in rows]
    counted = [Grader(Votes()).grade(2, Compared(row)).p[0, 1] < 0.5 for row in rows]
    accuracies = [np.mean(np.array(found) == np.array(truths)) for found in (weighed, counted)]
    assert accuracies[0] > 0.92
    assert accuracies[1] < 0.85


def test_strengths_of_two_and_of_three_responses() -> None:
    sure = {"ann": 1.0 - 1e-12}
    ballots = [vote(0, "ann")] * 3 + [vote(1, "ann")]
    worth = strengths(2, ballots, sure, prior=1.0)
    assert worth[0] - worth[1] == pytest.approx(math.log(2))
    # A closed cycle of equally many ballots: nobody is stronger.
    cycle = [Ballot(0, 1, 1.0, 1.0, "ann"), Ballot(1, 2, 1.0, 1.0, "ann"), Ballot(2, 0, 1.0, 1.0, "ann")]
    assert strengths(3, cycle, sure, prior=1.0) == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    chain = [Ballot(0, 1, 1.0, 5.0, "ann"), Ballot(1, 2, 1.0, 5.0, "ann")]
    first, second, third = strengths(3, chain, sure, prior=1.0)
    # By symmetry; and never compared, response 0 is above response 2.
    assert second == pytest.approx(0.0, abs=1e-6)
    assert first == pytest.approx(-third, abs=1e-6)
    # The likelihood is at its maximum: (6 - 7 s) + (1 - 2 t) = 0 with s = sigmoid(d), t = sigmoid(2 d).
    s, t = (1 / (1 + math.exp(-each)) for each in (first - second, first - third))
    assert 6 - 7 * s + 1 - 2 * t == pytest.approx(0.0, abs=1e-5)


def test_bradley_terry_weighs_annotators() -> None:
    """One expert and three who mostly guess rank three responses: the best one is found more often than by counting."""
    random = np.random.default_rng(1)
    accuracy = {"expert": 0.95, "a": 0.6, "b": 0.6, "c": 0.6}
    rows: list[tuple[Compared, int]] = []
    for _ in range(300):
        order = [int(place) for place in random.permutation(3)]
        ballots = []
        for first, second in ((0, 1), (0, 2), (1, 2)):
            better = float(order[first] < order[second])
            for name, right in accuracy.items():
                ballots.append(Ballot(first, second, better if random.random() < right else 1 - better, 1.0, name))
        rows.append((Compared(tuple(ballots)), order.index(0)))
    grader = make_grader(Votes(method="bradley_terry"), [opinion for opinion, _ in rows])
    assert {one.name: one.accuracy for one in grader.annotators} == pytest.approx(accuracy, abs=0.06)

    def found(signal: Grader) -> float:
        graded = [(signal.grade(3, opinion).worth, best) for opinion, best in rows]
        return float(np.mean([worth[best] == max(map(float, worth)) for worth, best in graded]))  # pyright: ignore

    assert found(grader) > 0.9
    assert found(Grader(Votes())) < 0.75


def test_bradley_terry_has_no_circles() -> None:
    ballots = tuple(Ballot(first, second, 1.0, 1.0, "ann") for first, second in ((0, 1), (1, 2), (2, 0)))
    signal = Votes(method="bradley_terry")
    graded = make_grader(signal, [Compared(ballots)]).grade(4, Compared(ballots))
    assert not graded.cyclic
    assert graded.p == pytest.approx({(0, 1): 0.5, (0, 2): 0.5, (1, 2): 0.5})
    assert graded.worth[3] is None


def test_opinions_survive_a_file() -> None:
    for opinion in (Scored((1.0, None), ("no rating",)), Compared((Ballot(0, 1, 0.5, 2.0, "ann"),), ("a tie",))):
        assert from_json(to_json(opinion)) == opinion


# --- several signals


def sides(*signs: int) -> list[Graded]:
    """What signals say of one pair: 1 for the first response, -1 for the second, 0 for nothing."""
    return [Graded({(0, 1): float(sign > 0)} if sign else {}, (None, None), "probability") for sign in signs]


def test_signals_are_combined_by_their_reliability() -> None:
    combiner = Combiner(("a", "b"), (Reliability("a", 0.9, 10), Reliability("b", 0.6, 10)))
    assert combiner.combine(2, sides(1, -1)).p == {(0, 1): pytest.approx(6 / 7)}
    assert combiner.combine(2, sides(0, -1)).p == {(0, 1): pytest.approx(0.4)}
    assert combiner.combine(2, sides(0, 0)).p == {}


def test_log_odds_of_signals_are_bounded() -> None:
    graded = [Graded({(0, 1): p}, (None, None), "score") for p in (1.0, 0.0, 0.75, 0.5, 1e-9)]
    assert features([*graded, *sides(0)], (0, 1)) == pytest.approx([SUREST, -SUREST, math.log(3), 0, -SUREST, 0])


def test_reliability_is_learned_from_gold() -> None:
    random = np.random.default_rng(2)
    groups = []
    for _ in range(2000):
        truth = 1 if random.random() < 0.5 else -1
        groups.append(sides(truth, *(truth if random.random() < p else -truth for p in (0.9, 0.6))))
    combiner = make_combiner(CombineConfig("logistic", gold="gold"), ("gold", "good", "poor"), groups)
    # The log-odds of a right answer, log(0.9 / 0.1) and log(0.6 / 0.4), as multiples of SUREST.
    assert combiner.weights == pytest.approx((0.0, math.log(9) / SUREST, math.log(1.5) / SUREST), abs=0.05)
    by_name = {one.name: one for one in combiner.calibration}
    assert by_name["good"].accuracy == pytest.approx(0.9, abs=0.02)
    assert by_name["combined"].accuracy == pytest.approx(0.9, abs=0.02)
    assert by_name["combined"].ece < 0.03 < by_name["poor"].ece
    assert combiner.combine(2, sides(-1, 1, 1)).p == {(0, 1): 0.0}, "where there is gold, gold it is"
    assert combiner.combine(2, sides(0, 1, -1)).p[0, 1] == pytest.approx(6 / 7, abs=0.02)


def test_too_little_gold_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"combine.gold: 3 pairs have a label of 'gold' and another signal; at least 20"
    ):
        make_combiner(CombineConfig("logistic", gold="gold"), ("gold", "a"), [sides(1, 1)] * 3)


def test_calibration_by_hand() -> None:
    found = calibration("x", np.array([0.9, 0.8]), np.array([1.0, 0.0]))
    assert (found.accuracy, found.brier, found.ece) == pytest.approx((0.5, 0.325, 0.45))
    assert calibration("x", np.array([0.5]), np.array([1.0])).accuracy == 0.5
