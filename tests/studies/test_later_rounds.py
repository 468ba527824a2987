"""Later rounds against the second, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from seralign.studies.cells import Ask, Setting
from seralign.studies.later_rounds import lasting
from seralign.studies.results import _lengths

LENGTHS = {0: [(4.0, 20.0), (0.0, 10.0), (2.0, 16.0)], 1: [(0.0, 10.0), (2.0, 10.0)]}


def round_of(gold: float, sharp: float, kl: float, length: float, **generated: float) -> dict[str, Any]:
    answers = {"1.0": {"gold": gold, "length": length}, "0.2": {"gold": sharp, "length": 1.0}}
    return {"kl": kl, "answers": answers} | ({"generated": generated} if generated else {})


def test_rounds_against_the_second_of_the_same_seed() -> None:
    rounds = {
        1: {0: round_of(9.0, 9.0, 0.1, 1.0)},
        2: {0: round_of(0.1, 0.5, 1.0, 13.0, gold_right=0.6, gold_wrong=0.2), 1: round_of(0.3, 0.4, 3.0, 10.0)},
        3: {0: round_of(0.2, 0.3, 3.0, 27.0, gold_right=0.5, gold_wrong=0.3), 1: round_of(0.2, 0.4, 9.0, 11.0)},
    }
    found = lasting(rounds, LENGTHS)

    assert list(found) == ["round-2", "round-3"]
    assert found["round-2"]["gain"]["mean"] == 0.0
    # Seed 0 gains .1 and seed 1 loses .1; at the last temperature they lose .2 and nothing.
    assert found["round-3"]["gain"]["mean"] == pytest.approx(0.0)
    assert found["round-3"]["gain"]["high"] == pytest.approx(12.706 * 0.1, rel=1e-3)
    assert found["round-3"]["gain_sharp"]["mean"] == pytest.approx(-0.1)
    # The baseline has 13 tokens at a KL of 1 and 18 at 3; in seed 1 it has 10 everywhere.
    assert found["round-2"]["longer"]["mean"] == pytest.approx(0.0)
    assert found["round-3"]["longer"]["mean"] == pytest.approx((0.5 + 0.1) / 2)
    # Seed 1 made no pairs: no mean of both.
    assert found["round-3"]["gold_right"] is None


def test_generated_pairs_are_told_where_every_seed_made_some() -> None:
    rounds = {2: {seed: round_of(0.0, 0.0, 1.0, 10.0, gold_right=right) for seed, right in ((0, 0.5), (1, 0.7))}}

    second = lasting(rounds, {})["round-2"]
    assert second["gold_right"]["mean"] == pytest.approx(0.6)
    assert second["gold_wrong"] is None
    assert second["longer"] is None


def test_a_baseline_that_is_not_finished_has_no_lengths() -> None:
    def cell(kl: float, length: float) -> dict[str, Any]:
        return {"policies": {"round-1": {"test": {"kl": kl, "1.0": {"length": length}}}}}

    settings = [
        Setting("dpo", "A", {"beta": 0.1}, Ask("round-1"), cells={0: "a", 1: "b"}),
        Setting("dpo", "A", {"beta": 0.4}, Ask("round-1"), cells={0: "c", 1: "d"}),
        Setting("other", "A", {}, Ask("round-1"), cells={0: "e", 1: "f"}),
    ]
    finished = {"a": cell(1.0, 12.0), "b": cell(1.1, 12.5), "c": cell(0.2, 11.0)}

    assert _lengths(settings, ("dpo",), finished) == {0: [(1.0, 12.0), (0.2, 11.0)]}
