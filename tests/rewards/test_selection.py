"""Which pairs each rule keeps, whatever the order of the rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seralign.config import SelectionConfig
from seralign.errors import DataError
from seralign.rewards.scored_pairs import ScoredPairs
from seralign.rewards.selection import Selection, select, select_fewer

timeless = settings(deadline=None)  # a busy machine is not a failure
FractionRule = Literal["top", "middle", "bottom", "random"]
FRACTION_RULES: list[FractionRule] = ["top", "middle", "bottom", "random"]
IDS = ["a", "b", "c", "d", "e", "f"]
MARGINS = np.array([0.5, 3.0, -1.0, 2.0, 3.0, 0.0])  # ranking: b e d a f c

# Few distinct margins, so that ties are common.
scored = st.dictionaries(
    st.text("abcxyz019-_é", min_size=1, max_size=6),
    st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.25, 1.0, 7.5]),
    min_size=1,
)
configs = st.one_of(
    st.builds(SelectionConfig, rule=st.sampled_from(FRACTION_RULES), fraction=st.floats(0.01, 1.0)),
    st.builds(SelectionConfig, rule=st.just("threshold"), threshold=st.sampled_from([-3.0, 0.0, 0.25, 9.0])),
    st.builds(SelectionConfig, rule=st.just("top_within_prompt"), fraction=st.floats(0.01, 1.0)),
    st.just(SelectionConfig(rule="all")),
)


def scored_as(ids: Sequence[str], margins: np.ndarray, prompts: Sequence[str] | None = None) -> ScoredPairs:
    """Pairs with these margins, each of a prompt of its own unless ``prompts`` are given."""
    count = len(ids)
    return ScoredPairs(
        ids, ids if prompts is None else prompts, margins, np.ones(count), np.ones(count), np.ones(count)
    )


def keep(pairs: dict[str, float], config: SelectionConfig, seed: int = 0) -> Selection:
    return select(scored_as(list(pairs), np.array(list(pairs.values()))), config, seed)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"rule": "top", "fraction": 0.5}, ["b", "d", "e"]),
        ({"rule": "top", "fraction": 0.1}, ["b"]),  # the tie with e is broken by the id
        ({"rule": "top", "fraction": 1.0}, IDS),
        ({"rule": "middle", "fraction": 0.34}, ["a", "d"]),
        ({"rule": "middle", "fraction": 0.5}, ["a", "d", "e"]),  # ranks 1 to 3: one place nearer the top
        ({"rule": "bottom", "fraction": 0.5}, ["a", "c", "f"]),
        ({"rule": "bottom", "fraction": 0.01}, ["c"]),  # at least one
        ({"rule": "threshold", "threshold": 2.0}, ["b", "d", "e"]),  # 2.0 itself is kept
        ({"rule": "threshold", "threshold": 3.5}, []),
        ({"rule": "all"}, IDS),
    ],
)
def test_kept_in_the_order_of_the_input(config: dict[str, Any], expected: list[str]) -> None:
    assert list(select(scored_as(IDS, MARGINS), SelectionConfig(**config), seed=0).kept) == expected


def test_table_has_a_row_for_each_pair() -> None:
    table = select(scored_as(IDS, MARGINS), SelectionConfig(rule="middle", fraction=0.34), seed=0).table()
    assert pa.table(table).to_pydict() == {
        "example_id": IDS,
        "margin": [0.5, 3.0, -1.0, 2.0, 3.0, 0.0],
        "rank": [3, 0, 5, 2, 1, 4],
        "kept": [True, False, False, True, False, False],
        "reason": [
            "kept", "above the middle 34%", "below the middle 34%", "kept", "above the middle 34%",
            "below the middle 34%",
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (SelectionConfig(rule="top", fraction=0.29), "below the top 29%"),
        (SelectionConfig(rule="bottom", fraction=0.3), "above the bottom 30%"),
        (SelectionConfig(rule="threshold", threshold=0.7), "margin below 0.7"),
        (SelectionConfig(rule="random", fraction=0.5), "not drawn"),
    ],
)
def test_reason_of_the_dropped(config: SelectionConfig, reason: str) -> None:
    selection = select(scored_as(IDS, MARGINS), config, seed=0)
    assert set(selection.reasons.to_pylist()) == {"kept", reason}


@timeless
@given(pairs=scored, config=configs, seed=st.integers(0, 5), shuffle=st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(
    pairs: dict[str, float], config: SelectionConfig, seed: int, shuffle: random.Random
) -> None:
    names = list(pairs)
    shuffle.shuffle(names)
    first, second = keep(pairs, config, seed), keep({name: pairs[name] for name in names}, config, seed)
    decided = [
        {row["example_id"]: row for row in pa.table(selection.table()).to_pylist()} for selection in (first, second)
    ]
    assert decided[0] == decided[1]
    assert list(decided[1]) == names


@timeless
@given(pairs=scored, rule=st.sampled_from(FRACTION_RULES), fraction=st.floats(0.001, 1.0))
def test_number_kept_is_the_nearest_and_at_least_one(
    pairs: dict[str, float], rule: FractionRule, fraction: float
) -> None:
    kept = keep(pairs, SelectionConfig(rule=rule, fraction=fraction)).kept
    assert 1 <= len(kept) <= len(pairs)
    assert abs(len(kept) - fraction * len(pairs)) <= 0.5 + 1e-9 or len(kept) == 1


@timeless
@given(pairs=scored, fraction=st.floats(0.01, 1.0))
def test_top_keeps_no_margin_below_a_dropped_one(pairs: dict[str, float], fraction: float) -> None:
    kept = set(keep(pairs, SelectionConfig(rule="top", fraction=fraction)).kept)
    lowest = min(pairs[name] for name in kept)
    assert all(margin <= lowest for name, margin in pairs.items() if name not in kept)


@timeless
@given(pairs=scored, fraction=st.floats(0.01, 1.0))
def test_middle_is_a_centred_band_of_ranks(pairs: dict[str, float], fraction: float) -> None:
    selection = keep(pairs, SelectionConfig(rule="middle", fraction=fraction))
    ranks = sorted(rank for rank, why in zip(selection.ranks, selection.is_kept, strict=True) if why)
    assert ranks == list(range(ranks[0], ranks[-1] + 1))
    above, below = ranks[0], len(pairs) - 1 - ranks[-1]
    assert below - above in (0, 1)


@timeless
@given(pairs=scored, data=st.data())
def test_top_and_bottom_share_out_the_pairs(pairs: dict[str, float], data: st.DataObject) -> None:
    if len(pairs) < 2:
        return
    count = data.draw(st.integers(1, len(pairs) - 1))
    top = keep(pairs, SelectionConfig(rule="top", fraction=count / len(pairs))).kept
    bottom = keep(pairs, SelectionConfig(rule="bottom", fraction=(len(pairs) - count) / len(pairs))).kept
    assert len(top) == count
    assert sorted(top + bottom) == sorted(pairs)


@timeless
@given(pairs=scored, threshold=st.floats(-3, 8))
def test_threshold_is_the_comparison(pairs: dict[str, float], threshold: float) -> None:
    kept = keep(pairs, SelectionConfig(rule="threshold", threshold=threshold)).kept
    assert list(kept) == [name for name, margin in pairs.items() if margin >= threshold]


@timeless
@given(pairs=scored, config=configs)
def test_ranks_sort_by_margin_then_id(pairs: dict[str, float], config: SelectionConfig) -> None:
    selection = keep(pairs, config)
    ranked = [name for _, name in sorted(zip(selection.ranks, selection.example_ids.to_pylist(), strict=True))]
    assert ranked == sorted(pairs, key=lambda name: (-pairs[name], name))


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        # x has b (3.0), d (2.0), a (0.5), c (-1.0); y has e (3.0), f (0.0); z has g (-9.0).
        (0.01, ["b", "e", "g"]),  # at least one pair of each prompt, however small its margin
        (0.37, ["b", "e", "g"]),  # 1.48 of the four of x
        (0.5, ["b", "d", "e", "g"]),
        (0.75, ["b", "d", "a", "e", "f", "g"]),  # 1.5 of the two of y: halves up
        (1.0, ["a", "b", "c", "d", "e", "f", "g"]),
    ],
)
def test_top_within_prompt(fraction: float, expected: list[str]) -> None:
    pairs = scored_as([*IDS, "g"], np.append(MARGINS, -9.0), ["x", "x", "x", "x", "y", "y", "z"])
    selection = select(pairs, SelectionConfig(rule="top_within_prompt", fraction=fraction), seed=0)
    assert list(selection.kept) == sorted(expected)
    assert selection.ranks.tolist() == [3, 0, 5, 2, 1, 4, 6]  # among all pairs
    dropped = {f"below the top {100 * fraction:g}% of its prompt"} if fraction < 1 else set()
    assert set(selection.reasons.to_pylist()) == {"kept"} | dropped


@timeless
@given(pairs=scored, fraction=st.floats(0.01, 1.0), data=st.data())
def test_top_within_prompt_is_top_of_each_prompt_alone(
    pairs: dict[str, float], fraction: float, data: st.DataObject
) -> None:
    prompts = [data.draw(st.sampled_from("xyz")) for _ in pairs]
    within = SelectionConfig(rule="top_within_prompt", fraction=fraction)
    kept = select(scored_as(list(pairs), np.array(list(pairs.values())), prompts), within, seed=0).kept
    alone: list[str] = []
    for prompt in set(prompts):
        own = {name: pairs[name] for name, asked in zip(pairs, prompts, strict=True) if asked == prompt}
        alone += keep(own, SelectionConfig(rule="top", fraction=fraction)).kept
    assert sorted(kept) == sorted(alone)


@pytest.mark.parametrize(
    ("rule", "count", "expected"),
    [
        ("top", 2, "be"),
        ("middle", 2, "da"),
        ("middle", 3, "eda"),
        ("bottom", 2, "fc"),
        ("threshold", 4, "beda"),
        ("top_within_prompt", 1, "b"),  # the best pairs of their prompts are b, e and f
        ("top_within_prompt", 3, "bef"),
        ("top_within_prompt", 4, "befd"),  # then the others of x: d, a, c
        ("top_within_prompt", 5, "befda"),
    ],
)
def test_fewer_of_the_kept_pairs(rule: Any, count: int, expected: str) -> None:
    pairs = scored_as(IDS, MARGINS, ["x", "x", "x", "x", "y", "z"])
    config = SelectionConfig(rule=rule, threshold=-2.0 if rule == "threshold" else None)
    assert {IDS[row] for row in np.flatnonzero(select_fewer(pairs, config, count, seed=0))} == set(expected)


@timeless
@given(pairs=scored, config=configs, seed=st.integers(0, 5), data=st.data())
def test_fewer_is_as_many_as_asked_for(
    pairs: dict[str, float], config: SelectionConfig, seed: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(pairs)))
    prompts = [data.draw(st.sampled_from("xyz")) for _ in pairs]
    table = scored_as(list(pairs), np.array(list(pairs.values())), prompts)
    chosen = select_fewer(table, config, count, seed)
    assert chosen.sum() == count
    fewer = {name for name, is_chosen in zip(pairs, chosen, strict=True) if is_chosen}
    if config.rule == "top_within_prompt":
        places = [[name in fewer for name in own] for own in _ranked_by_prompt(pairs, prompts)]
        taken = [sum(own) for own in places]
        # Each prompt gives its best; none gives a second pair while another still has a pair of a lower place.
        assert all(own == sorted(own, reverse=True) for own in places)
        assert all(taken[i] + 1 >= max(taken) or taken[i] == len(own) for i, own in enumerate(places))


def _ranked_by_prompt(pairs: dict[str, float], prompts: list[str]) -> list[list[str]]:
    ranked = sorted(zip(pairs, prompts, strict=True), key=lambda row: (-pairs[row[0]], row[0]))
    return [[name for name, asked in ranked if asked == prompt] for prompt in sorted(set(prompts))]


def test_fewer_of_all_is_a_random_draw_of_the_seed() -> None:
    pairs = scored_as([f"pair-{i}" for i in range(1000)], np.arange(1000.0))
    drawn = [select_fewer(pairs, SelectionConfig(rule="all"), 300, seed).tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == select(pairs, SelectionConfig(rule="random", fraction=0.3), seed=1).is_kept.tolist()


def test_random_reads_seed_and_id_and_not_the_margin() -> None:
    names = [f"pair-{i}" for i in range(1000)]
    config = SelectionConfig(rule="random", fraction=0.3)
    zeros, noise = np.zeros(1000), np.random.default_rng(0).normal(size=1000)
    drawn = select(scored_as(names, zeros), config, seed=1).kept
    assert len(drawn) == 300
    assert select(scored_as(names, noise), config, seed=1).kept == drawn
    other = select(scored_as(names, zeros), config, seed=2).kept
    # Independent draws share 1000 * 0.3 * 0.3 = 90 pairs, standard deviation about 8.
    assert 50 < len(set(drawn) & set(other)) < 130
    # No part of the ids is favoured: 150 +- 9 of each half.
    assert 105 < sum(int(name[5:]) < 500 for name in drawn) < 195
    # A smaller fraction with the same seed is a part of the larger one.
    assert set(select(scored_as(names, zeros), replace(config, fraction=0.1), seed=1).kept) < set(drawn)


@pytest.mark.parametrize("rule", [*FRACTION_RULES, "top_within_prompt", "all"])
def test_nothing_in_nothing_out(rule: Any) -> None:
    assert select(scored_as([], np.array([])), SelectionConfig(rule=rule), seed=0).kept == ()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_margin_that_is_no_number_names_the_pair(bad: float) -> None:
    message = rf"^pair 'q': margin is {bad}, must be a finite number \(1 of 3 pairs have such a margin\)$"
    with pytest.raises(DataError, match=message):
        scored_as(["p", "q", "r"], np.array([1.0, bad, 2.0]))


def test_repeated_id_is_named() -> None:
    with pytest.raises(DataError, match=r"^example_id 'q' occurs more than once"):
        scored_as(["p", "q", "q"], np.array([1.0, 2.0, 2.0]))


def test_margins_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^margins must have shape \[2\], one for each pair, got \[2, 1\]$"):
        scored_as(["p", "q"], np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"^prompt_ids must have shape \[2\], one for each pair, got \[1\]$"):
        scored_as(["p", "q"], np.zeros(2), ["x"])


def test_selection_loads_no_torch(tmp_path: Any) -> None:
    import subprocess
    import sys

    code = "import sys, seralign.rewards.selection; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
