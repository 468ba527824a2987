"""The plan of a training: what every property test below holds for any lengths, budget and number of processes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from seralign.config import TrainingConfig
from seralign.errors import ConfigError, DataError
from seralign.policy.packs import Sizes, fill
from seralign.training.plan import Plan, check_step, plan_training

lengths_of = st.lists(st.integers(2, 60), min_size=1, max_size=60).map(np.array)
settings_of = st.fixed_dictionaries(
    {"epochs": st.integers(1, 3), "batch_size": st.integers(1, 20), "tokens_per_pack": st.integers(1, 400)}
)


def pairs_of(longest: np.ndarray) -> Sizes:
    """Pairs whose prompt is half of the longest sequence, and whose responses are equally long."""
    return Sizes(packed=longest + longest // 2, longest=longest, sequences=np.full_like(longest, 2))


def planned(
    longest: np.ndarray, settings: dict[str, Any], seed: int = 0, world_size: int = 1, packed_length: int = 0
) -> Plan:
    config = TrainingConfig(**settings)  # pyright: ignore
    return plan_training(pairs_of(longest), config, seed, packed_length=packed_length, world_size=world_size)


def counted(plan: Plan) -> list[int]:
    return [row for pack in plan.packs if pack.counts for row in pack.rows.tolist()]


@given(lengths_of, settings_of, st.integers(1, 4))
def test_each_row_is_seen_once_an_epoch_in_steps_of_equal_size(lengths, settings, world_size):
    assume(len(lengths) >= world_size and settings["batch_size"] >= 2 * world_size)
    plan = planned(lengths, settings, world_size=world_size)

    assert Counter(counted(plan)) == dict.fromkeys(range(len(lengths)), settings["epochs"])
    sizes = [len(plan.step_rows(step)) for step in range(plan.steps)]
    assert plan.steps == -(-len(lengths) * settings["epochs"] // settings["batch_size"])
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= settings["batch_size"]


@given(lengths_of, settings_of, st.integers(1, 4))
def test_every_process_has_the_same_number_of_packs_in_every_step(lengths, settings, world_size):
    assume(len(lengths) >= world_size and settings["batch_size"] >= 2 * world_size)
    plan = planned(lengths, settings, world_size=world_size)

    assert len(plan.packs) == plan.steps * plan.accumulation * world_size
    for step in range(plan.steps):
        packs = [pack for at, pack in enumerate(plan.packs) if plan.step_of(at) == step]
        assert len(packs) == plan.accumulation * world_size
        assert sorted(row for pack in packs if pack.counts for row in pack.rows) == sorted(plan.step_rows(step))


@given(lengths_of, settings_of)
def test_a_pack_fits_the_token_budget_unless_it_is_a_single_pair(lengths, settings):
    for pack in planned(lengths, settings).packs:
        padded = 2 * len(pack.rows) * lengths[pack.rows].max()
        assert padded <= settings["tokens_per_pack"] or len(pack.rows) == 1


@given(lengths_of, settings_of)
def test_packed_rows_count_each_prompt_once_and_no_padding(lengths, settings):
    sizes = pairs_of(lengths)
    for pack in planned(lengths, settings, packed_length=30).packs:
        longest = lengths[pack.rows].max()
        tokens = sizes.packed[pack.rows].sum() if longest <= 30 else 2 * len(pack.rows) * longest
        assert tokens <= settings["tokens_per_pack"] or len(pack.rows) == 1


def test_packed_rows_hold_more_pairs():
    settings = {"epochs": 1, "batch_size": 12, "tokens_per_pack": 60}
    # A pair of 20 tokens at its longest is 40 padded, and 30 packed: a step of 12 pairs is 12 packs, or 6.
    assert planned(np.full(12, 20), settings).accumulation == 12
    assert planned(np.full(12, 20), settings, packed_length=20).accumulation == 6


@given(lengths_of, settings_of, st.integers(0, 2**31 - 1))
def test_the_same_seed_gives_the_same_plan(lengths, settings, seed):
    one, two = planned(lengths, settings, seed), planned(lengths, settings, seed)

    assert (one.steps, one.accumulation) == (two.steps, two.accumulation)
    assert [pack.rows.tolist() for pack in one.packs] == [pack.rows.tolist() for pack in two.packs]


def test_another_seed_or_epoch_has_another_order():
    settings = {"epochs": 2, "batch_size": 5, "tokens_per_pack": 10_000}
    one, two = (planned(np.full(50, 10), settings, seed) for seed in (0, 1))

    assert counted(one) != counted(two)
    assert counted(one)[:50] != counted(one)[50:]
    assert sorted(counted(one)[:50]) == list(range(50))


def test_the_budget_changes_packs_and_never_steps():
    lengths = np.random.default_rng(0).integers(5, 50, size=40)
    wide, narrow = (
        planned(lengths, {"epochs": 1, "batch_size": 8, "tokens_per_pack": budget}) for budget in (10_000, 100)
    )

    assert wide.accumulation == 1
    assert narrow.accumulation > 1
    assert [sorted(wide.step_rows(s)) for s in range(5)] == [sorted(narrow.step_rows(s)) for s in range(5)]


def test_packs_that_only_keep_step_do_not_count():
    # Step sizes 2 and 1: the lone pair of a step cannot be split over the two packs of a process each.
    plan = planned(np.array([9, 9, 30]), {"epochs": 1, "batch_size": 2, "tokens_per_pack": 1})

    assert plan.steps == 2
    assert plan.accumulation == 2
    assert [pack.counts for pack in plan.packs].count(False) == 1
    assert sorted(counted(plan)) == [0, 1, 2]


def test_max_steps_gives_full_steps_and_begins_anew_when_the_pairs_are_used_up():
    plan = planned(np.full(10, 5), {"max_steps": 6, "batch_size": 4})

    assert [len(plan.step_rows(step)) for step in range(plan.steps)] == [4] * 6
    assert sorted(Counter(counted(plan)).values()) == [2] * 6 + [3] * 4


def test_half_an_epoch_sees_half_of_the_pairs_once():
    plan = planned(np.full(10, 5), {"epochs": 0.5, "batch_size": 5})

    assert plan.steps == 1
    assert len(set(counted(plan))) == 5


def test_fewer_pairs_in_a_step_than_processes_is_an_error():
    with pytest.raises(ConfigError, match=r"training\.batch_size: a step of 1 pairs cannot be divided among 2"):
        planned(np.full(3, 5), {"batch_size": 2}, world_size=2)


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(DataError, match="no pairs to train on"):
        planned(np.zeros(0, dtype=np.int64), {})
    with pytest.raises(ConfigError, match=r"training\.epochs: 0\.01 of 10 pairs is less than one pair"):
        planned(np.full(10, 5), {"epochs": 0.01})


@given(lengths_of, st.integers(1, 400))
def test_filling_covers_each_row_once_longest_first(lengths, budget):
    packs = fill(np.arange(len(lengths)), Sizes(lengths, lengths, np.ones_like(lengths)), budget, 0)

    assert sorted(row for pack in packs for row in pack) == list(range(len(lengths)))
    assert [lengths[row] for pack in packs for row in pack] == sorted(lengths, reverse=True)
    assert all(len(pack) * lengths[pack].max() <= budget or len(pack) == 1 for pack in packs)


def test_a_step_that_repeats_the_data_over_and_over_is_refused() -> None:
    check_step(TrainingConfig(max_steps=2, batch_size=48), 24, "training")
    check_step(TrainingConfig(epochs=1, batch_size=10**6), 24, "training")
    says = r"^training\.batch_size: a step of 1000000 pairs is larger than the data of 24 pairs, .* set at most 24$"
    with pytest.raises(ConfigError, match=says):
        check_step(TrainingConfig(max_steps=2, batch_size=10**6), 24, "training")
