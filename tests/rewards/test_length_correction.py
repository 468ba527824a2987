"""What length explains of margins: by hand, and what must hold of any input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.rewards.length_correction import balancing_slope, length_slope, like_length, slope_within


def test_slope_by_hand() -> None:
    hard = np.ones(3)
    # About their means h is -2, 2, 0 and d is -1, 0, 1.
    assert length_slope(np.array([1.0, 5.0, 3.0]), np.array([4.0, 5.0, 6.0]), hard) == pytest.approx(1.0)
    # The label alone: one half more where it is sure. Two tokens explain one nat of the rest.
    p, longer = np.array([1.0, 1.0, 0.75, 0.5]), np.array([0.0, 2.0, 1.0, 4.0])
    assert length_slope((2 * p - 1) + 0.5 * longer, longer, p) == pytest.approx(0.5)


def test_nothing_is_taken_where_length_does_not_differ() -> None:
    assert length_slope(np.array([3.0, 1.0]), np.zeros(2), np.ones(2)) == 0.0
    # As long in every pair: that may be the label as well.
    assert length_slope(np.array([3.0, 1.0]), np.array([4.0, 4.0]), np.ones(2)) == 0.0
    assert length_slope(np.array([3.0, 1.0]), np.array([4.0, 4.0]), np.array([0.5, 0.5])) == pytest.approx(0.5)


def test_a_policy_that_prefers_longer_chosen_answers_alike_keeps_its_margins() -> None:
    """Margins that do not go with length, of pairs whose chosen answers are longer: nothing to take away."""
    rng = np.random.default_rng(0)
    longer = rng.normal(50.0, 100.0, 20_000)
    margins = rng.normal(1.0, 1.0, 20_000)
    left = margins - length_slope(margins, longer, np.ones(20_000)) * longer

    assert abs(np.corrcoef(left, longer)[0, 1]) < 1e-9
    assert left.mean() == pytest.approx(1.0, abs=0.03)


pairs = st.lists(
    st.tuples(st.floats(-50, 50), st.integers(-20, 20), st.booleans(), st.floats(0, 1)), min_size=1, max_size=40
)


@given(pairs)
def test_what_is_left_does_not_know_length_whichever_way_round_pairs_are(
    rows: list[tuple[float, int, bool, float]],
) -> None:
    margins, longer = np.array([row[0] for row in rows]), np.array([float(row[1]) for row in rows])
    signs, p = np.array([1.0 if row[2] else -1.0 for row in rows]), np.array([row[3] for row in rows])
    slope = length_slope(margins, longer, p)
    swapped = length_slope(signs * margins, signs * longer, 0.5 + signs * (p - 0.5))
    assert swapped == pytest.approx(slope, abs=1e-6, rel=1e-6)

    label = 2 * p - 1
    design = np.stack([longer, label], axis=1)
    if np.linalg.matrix_rank(design) == 2 and np.linalg.cond(design) < 1e3:
        assert slope == pytest.approx(float(np.linalg.lstsq(design, margins, rcond=None)[0][0]), abs=1e-6)


# --- responses to the same prompt


def test_slope_within_a_prompt_by_hand() -> None:
    """Longer prompts' answers have less reward, longer answers to a prompt more: the prompts have no part in it."""
    lengths, rewards = np.array([1.0, 3.0, 5.0, 9.0]), np.array([2.0, 6.0, 0.0, 2.0])
    assert slope_within([[0, 1], [2, 3]], rewards, lengths) == pytest.approx(0.8)
    assert slope_within([[3, 2], [1, 0]], rewards - 50 * np.array([0, 0, 1, 1]), lengths) == pytest.approx(0.8)
    assert slope_within([[0, 1, 2, 3]], rewards, lengths) < 0
    # A row in no group has no part in it either.
    assert slope_within([[0, 1]], rewards, lengths) == pytest.approx(2.0)
    assert slope_within([[0, 1]], rewards, np.full(4, 7)) == slope_within([], rewards, lengths) == 0.0


def test_balancing_penalty_by_hand() -> None:
    """Lengths 10 and 30 with rewards 1 and 3: the long one is better until a penalty of 2 / 20 = 0.1. A second prompt,
    40 and 10 with 6 and 0, turns at 6 / 30 = 0.2. Differences 20 + 30, then -20 + 30, then -20 - 30, halved: the least
    is 5, between 0.1 and 0.2."""
    groups, lengths, rewards = [[0, 1], [2, 3]], np.array([10, 30, 40, 10]), np.array([1.0, 3.0, 6.0, 0.0])
    found = balancing_slope(groups, rewards, lengths)
    assert 0.1 <= found <= 0.2
    assert _length_difference(groups, rewards - found * lengths, lengths) == 5.0
    # The mirror: whoever prefers short answers is given a negative penalty.
    assert -0.2 <= balancing_slope(groups, -rewards, lengths) <= -0.1
    assert balancing_slope([[0, 1], [2, 3]], np.array([1.0, 0.0, 1.0, 0.0]), np.array([5, 9, 9, 5])) == 0.0
    assert balancing_slope(groups, rewards, np.full(4, 9)) == balancing_slope([], rewards, lengths) == 0.0


def test_the_sign_that_offline_pairs_have_is_not_that_of_samples() -> None:
    """The failure on real dialogues: offline margins fall with length, rewards of samples rise with it. The offline
    slope makes the long answer win more often, those of the samples themselves do not."""
    rng = np.random.default_rng(0)
    longer = rng.normal(0.0, 30.0, 2_000)
    margins = rng.normal(0.5, 2.0, 2_000) - 0.1 * longer
    lengths = rng.integers(5, 60, 4_000).astype(float)
    rewards = rng.normal(0.0, 2.0, 4_000) + 0.15 * lengths
    groups = np.arange(4_000).reshape(-1, 4).tolist()

    offline = length_slope(margins, longer, np.ones(2_000))
    own, balanced = slope_within(groups, rewards, lengths), balancing_slope(groups, rewards, lengths)
    assert (offline, own, balanced) == pytest.approx((-0.1, 0.15, 0.15), abs=0.01)
    left = {slope: _length_difference(groups, rewards - slope * lengths, lengths) for slope in (offline, 0.0, own)}
    assert left[offline] > left[0.0] > 20
    assert abs(left[own]) < 2
    assert abs(_length_difference(groups, rewards - balanced * lengths, lengths)) < 0.1


def _length_difference(groups: list[list[int]], rewards: np.ndarray, lengths: np.ndarray) -> float:
    ranked = [sorted(group, key=lambda row: -rewards[row]) for group in groups]
    return float(np.mean([lengths[rows[0]] - lengths[rows[-1]] for rows in ranked]))


samples = st.lists(
    st.lists(st.tuples(st.floats(-20, 20), st.integers(1, 60)), min_size=2, max_size=6), min_size=1, max_size=8
)


def _arrays(prompts: list[list[tuple[float, int]]]) -> tuple[list[list[int]], np.ndarray, np.ndarray]:
    rows = [row for prompt in prompts for row in prompt]
    ends = np.cumsum([len(prompt) for prompt in prompts])
    groups = [list(range(end - len(prompt), end)) for end, prompt in zip(ends.tolist(), prompts, strict=True)]
    return groups, np.array([reward for reward, _ in rows]), np.array([float(length) for _, length in rows])


@given(samples)
def test_what_is_left_within_prompts_does_not_go_with_length(prompts: list[list[tuple[float, int]]]) -> None:
    groups, rewards, lengths = _arrays(prompts)
    left = rewards - slope_within(groups, rewards, lengths) * lengths
    assert slope_within(groups, left, lengths) == pytest.approx(0.0, abs=1e-9)


@given(samples, st.floats(-40, 40))
def test_no_penalty_leaves_less_difference_in_length(prompts: list[list[tuple[float, int]]], other: float) -> None:
    groups, rewards, lengths = _arrays(prompts)
    found = balancing_slope(groups, rewards, lengths)
    shaped = rewards - other * lengths
    # Where penalised rewards are equal, which response counts is decided by their order and not by the penalty.
    gaps = [abs(shaped[a] - shaped[b]) for group in groups for a in group for b in group if a < b]
    if min(gaps) > 1e-6:
        least = abs(_length_difference(groups, rewards - found * lengths, lengths))
        assert least <= abs(_length_difference(groups, shaped, lengths)) + 1e-9


@given(samples, st.sampled_from([0.0, 0.1, 0.25, 0.5]))
def test_matched_responses_are_the_furthest_apart_of_all_that_are_alike(
    prompts: list[list[tuple[float, int]]], band: float
) -> None:
    for prompt in prompts:
        rewards, lengths = np.array([each[0] for each in prompt]), np.array([each[1] for each in prompt])
        alike = [
            abs(a - b)
            for place, (a, m) in enumerate(prompt)
            for b, n in prompt[:place]
            if abs(m - n) <= band * max(m, n) + 1e-9
        ]
        found = like_length(rewards, lengths, band)
        assert (found is None) == (not alike)
        if found is not None:
            assert rewards[found[0]] - rewards[found[1]] == max(alike)
