"""Comparisons over seeds: a world of two seeds worked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.intervals import Interval
from seralign.studies.compare import Trial, compare_world, ratio_interval
from seralign.studies.figures import Comparison
from seralign.studies.tables import METHOD_COLUMNS, Method

T1 = 12.706204736  # Student's t at 97.5% with one degree of freedom


def trial(kl: float, test: list[float], validation: float | None = None) -> Trial:
    """A trial whose answers have these gold rewards at temperature 1; validation answers are one value."""
    chosen_by = np.mean(test) if validation is None else validation
    gold = {("test", 1.0): np.array(test), ("validation", 1.0): np.array([chosen_by])}
    return Trial({"test": kl, "validation": kl}, gold, {1.0: {"length": float(len(test))}})


WORLD = {
    "supervised": {"–": {0: trial(0.0, [0.0, 0.0]), 1: trial(0.0, [0.0, 0.0])}},
    # By validation the mild setting is the better one, although the strong one has more gold on test prompts.
    "dpo": {
        "mild": {0: trial(2.0, [0.2, 0.4], 0.9), 1: trial(2.0, [0.1, 0.1], 0.9)},
        "strong": {0: trial(6.0, [0.5, 0.5], 0.1), 1: trial(6.0, [0.5, 0.5], 0.1)},
    },
    "ours": {"–": {0: trial(1.0, [0.3, 0.3]), 1: trial(4.0, [0.3, 0.1])}},
    "ceiling": {"–": {0: trial(3.0, [0.7, 0.7]), 1: trial(3.0, [0.5, 0.5])}},
}


def compared() -> dict[str, Any]:
    return compare_world(WORLD, supervised="supervised", baseline="dpo", ceiling="ceiling", temperature=1.0)


def test_settings_are_chosen_on_validation_prompts_and_reported_on_test_prompts() -> None:
    row = compared()["dpo"]

    assert row.setting == "mild"
    assert row.seeds == 2
    assert row.gold.mean == pytest.approx(0.2)  # (.3 + .1) / 2
    half = T1 * math.sqrt(0.02) / math.sqrt(2)  # standard deviation of .3 and .1
    assert row.gold.high - row.gold.mean == pytest.approx(half)
    assert row.win_rate.mean == 0.5
    assert row.gain == Interval(0.0, 0.0, 0.0, 2)


def test_wins_and_gains_are_against_the_baselines_best_setting_on_the_same_prompts() -> None:
    row = compared()["ours"]

    # Seed 0: .3 > .2, .3 < .4; seed 1: .3 > .1, .1 = .1. (.5 + .75) / 2
    assert row.win_rate.mean == pytest.approx(0.625)
    assert row.gain.mean == pytest.approx((0.0 + 0.1) / 2)


def test_excess_is_over_the_settings_that_are_undominated_on_validation_prompts() -> None:
    row = compared()["ours"]

    # The strong setting has more KL and less validation gold: the envelope is (0, 0), (2, gold) and level after.
    # Seed 0 at KL 1: .3 - .15; seed 1 at KL 4: .2 - .1.
    assert row.excess.mean == pytest.approx((0.15 + 0.1) / 2)
    assert row.best_setting == "–"
    # Budgets up to 2: seed 0 has .3 from KL 1 on, half of them; seed 1 needs KL 4.
    assert row.hypervolume.mean == pytest.approx((0.15 + 0.0) / 2)


def shown(name: str, row: Comparison) -> dict[str, str]:
    return {column.title: column.cell(Method(name, row)) for column in METHOD_COLUMNS}


def test_beyond_the_baselines_largest_kl_there_is_no_excess() -> None:
    """The envelope is level from KL 2 on, up to 6, which the baseline's strong setting has. What is at 7 would be above
    it by .8, and nobody knows what the baseline has there."""
    far = {seed: trial(7.0, [1.0, 1.0]) for seed in (0, 1)}
    near = {seed: trial(6.0, [0.9, 0.9]) for seed in (0, 1)}
    methods = WORLD | {"far": {"–": far}, "both": {"far": far, "near": near}}
    rows = compare_world(methods, supervised="supervised", baseline="dpo", ceiling="ceiling", temperature=1.0)

    assert [name for name, row in rows.items() if row.beyond] == ["far", "both"]
    assert (rows["far"].excess, rows["far"].best_setting, rows["far"].best_excess) == (None, None, None)
    # Of its settings, the one that is not beyond has the largest excess: .9 over .3 and over .1.
    assert (rows["both"].setting, rows["both"].excess, rows["both"].best_setting) == ("far", None, "near")
    assert rows["both"].best_excess is not None
    assert rows["both"].best_excess.mean == pytest.approx((0.6 + 0.8) / 2)
    cells = shown("far", rows["far"])
    assert (cells["KL"], cells["excess"], cells["largest excess"]) == ("7.0", "beyond", "beyond")
    assert shown("both", rows["both"])["largest excess"].startswith("0.700")
    assert shown("ours", rows["ours"])["excess"].startswith("0.125")


def test_headroom_at_more_kl_is_marked() -> None:
    """Baseline and ceiling are at 2 and 3 nats, so up to 3.75 a method has about as much."""
    methods = WORLD | {f"at {kl}": {"–": {seed: trial(kl, [0.4, 0.4]) for seed in (0, 1)}} for kl in (3.75, 3.8)}
    rows = compare_world(methods, supervised="supervised", baseline="dpo", ceiling="ceiling", temperature=1.0)

    assert [name for name, row in rows.items() if row.at_more_kl] == ["at 3.8"]
    assert shown("at 3.8", rows["at 3.8"])["headroom"].endswith(" †")
    assert not shown("at 3.75", rows["at 3.75"])["headroom"].endswith("†")


def test_headroom_is_the_share_of_what_the_ceiling_has_above_the_baseline() -> None:
    rows = compared()

    # Gains 0 and .1, room .4 and .4.
    assert rows["ours"].headroom.mean == pytest.approx(0.05 / 0.4)
    assert rows["ceiling"].headroom == Interval(1.0, 1.0, 1.0, 2)
    assert rows["dpo"].headroom.mean == 0.0


def test_a_method_counts_in_the_seeds_that_all_its_settings_have_finished() -> None:
    methods = WORLD | {
        "partly": {"a": {0: trial(1.0, [0.3, 0.3]), 1: trial(1.0, [0.3, 0.3])}, "b": {1: trial(1.0, [0.2, 0.2])}}
    }
    rows = compare_world(methods, supervised="supervised", baseline="dpo", ceiling=None, temperature=1.0)

    assert rows["partly"].seeds == 1
    gold = rows["partly"].gold
    assert gold is not None
    assert gold.low is None
    assert rows["ours"].headroom is None
    missing = WORLD | {"dpo": {"mild": {}}}
    assert compare_world(missing, supervised="supervised", baseline="dpo", ceiling=None, temperature=1.0) == {}


def test_figures_are_means_over_seeds() -> None:
    assert compared()["ours"].figures == {"length": 2.0}


def test_ratio_interval_is_that_of_the_linearised_ratio() -> None:
    # R = .3 / .6 = .5; the residuals over the mean room .3 are (.1 - .1) / .3 and (.2 - .2) / .3: no spread.
    exact = ratio_interval([0.1, 0.2], [0.2, 0.4])
    assert exact is not None
    assert (exact.mean, exact.low, exact.high) == pytest.approx((0.5, 0.5, 0.5))
    # R = 1; residuals (.1 - .2) / .3 and (.5 - .4) / .3, that is -1/3 and 1/3: standard error 1/3.
    loose = ratio_interval([0.1, 0.5], [0.2, 0.4])
    assert loose is not None
    assert loose.high is not None
    assert loose.high - loose.mean == pytest.approx(T1 / 3)
    assert ratio_interval([0.1], [-0.2]) is None
    assert ratio_interval([], []) is None
    assert ratio_interval([0.1], [0.2]).low is None  # pyright: ignore


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0.1, 1)), min_size=2, max_size=8), st.floats(0.5, 2.0))
def test_ratio_interval_scales_with_its_gains(pairs: list[tuple[float, float]], factor: float) -> None:
    gains, rooms = zip(*pairs, strict=True)
    one, more = ratio_interval(gains, rooms), ratio_interval([factor * gain for gain in gains], rooms)

    assert one is not None
    assert more is not None
    assert one.low is not None
    assert more.low is not None
    assert one.low <= one.mean + 1e-12
    assert (more.mean, more.low) == pytest.approx((factor * one.mean, factor * one.low), abs=1e-9)
