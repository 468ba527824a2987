"""The world of elaborations: gold by hand, and answers whose length differs tenfold and is no quality."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.config import WorldConfig
from seralign.laboratory import elaborations
from seralign.laboratory.clauses import ClauseWorld
from seralign.laboratory.elaborations import DETAILS, VOCABULARY, ElaborationWorld, draw_world
from seralign.laboratory.grammar import demonstrations, offline_pairs

PROMPT = "e1 e2 e3 e4 <sep>"
CONFIG = WorldConfig(name="elaborations", spurious_strength=0.0)


@pytest.fixture(scope="module")
def by_hand() -> ElaborationWorld:
    """e1 w1, e2 w2, e3 w3 and e4 w4 are worth 1, every other clause -1."""
    table = np.full((12, 8), -1)
    table[range(4), range(4)] = 1
    return ElaborationWorld(CONFIG, ClauseWorld(CONFIG, table))


@pytest.mark.parametrize(
    ("response", "four_gold"),
    [
        ("e1 w1 e2 w2 e3 w3 e4 w4", 4),
        ("e1 w1 d1 d2 d3 e2 w2 d12 d12 e3 w3 e4 w4 d5", 4),
        ("d1 d2 d3", 0),
        ("e1 d1 w1", -2),  # a detail parts them: both malformed
        ("e1 w1 d13", 0),  # 1 - 1: d13 is no detail
        ("e1 w2 d1 e1 w1 d1", -1),  # -1 + min(0, 1)
        ("e1 w1 d1 <eos> e2 w2", 1),
        ("e1 w1 d1<eos>", 1),
    ],
)
def test_gold_by_hand(by_hand: ElaborationWorld, response: str, four_gold: int) -> None:
    """Four times the gold reward: details count nothing, wherever they stand."""
    assert by_hand.score([PROMPT], [response]).tolist() == [four_gold / 4]


@given(st.lists(st.sampled_from(VOCABULARY[4:]), max_size=12), st.integers(0, 12), st.sampled_from(DETAILS))
def test_a_detail_more_changes_nothing_but_inside_a_clause(tokens: list[str], place: int, detail: str) -> None:
    world = draw_world(CONFIG)
    inside = place < len(tokens) and place > 0 and tokens[place - 1].startswith("e") and tokens[place].startswith("w")
    longer = [*tokens[:place], detail, *tokens[place:]]
    before, after = world.score([PROMPT] * 2, [" ".join(tokens), " ".join(longer)])
    assert inside or before == after


def test_answers_differ_tenfold_in_length_and_gold_does_not_know() -> None:
    world = draw_world(CONFIG)
    lengths = np.array([len(row["response"].split()) for row in demonstrations(world)])
    assert (lengths.min(), lengths.max() + 1) == (8, elaborations.MAX_RESPONSE_TOKENS) == (8, 105)
    assert np.quantile(lengths, [0.1, 0.5, 0.9, 0.95]) == pytest.approx([8, 13, 54, 67], abs=2)
    rows = offline_pairs(world)
    longer = np.array([len(row["chosen"].split()) - len(row["rejected"].split()) for row in rows])
    gold = np.array([row["gold_chosen"] - row["gold_rejected"] for row in rows])
    assert np.std(longer) > 25
    # 0.016 is the deviation of a correlation of 4,000 independent pairs.
    assert abs(np.corrcoef(longer, gold)[0, 1]) < 0.05
    assert np.mean(longer > 0) == pytest.approx(np.mean(longer < 0), abs=0.05)


def test_a_stranger_has_other_details() -> None:
    """The first six of the twelve, by source."""
    config = replace(CONFIG, off_policy_share=1.0, off_policy_source="stranger", pairs=500)
    texts = {
        "supervised": [row["response"] for row in demonstrations(draw_world(config))],
        "stranger": [row[side] for row in offline_pairs(draw_world(config)) for side in ("chosen", "rejected")],
    }
    found = {name: [t for text in each for t in text.split() if t in DETAILS] for name, each in texts.items()}
    shares = {name: np.mean([token in DETAILS[:6] for token in each]) for name, each in found.items()}
    assert shares == pytest.approx({"supervised": 0.9, "stranger": 0.1}, abs=0.01)


def test_its_prompts_and_its_table_are_those_of_the_clause_world() -> None:
    world = draw_world(CONFIG)
    assert world.key() == world.clauses.key()
    assert elaborations.from_key(CONFIG, world.key()).key() == world.key()
    assert world.positions >= 4 + 2 + elaborations.MAX_RESPONSE_TOKENS
