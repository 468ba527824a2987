"""The clause world: gold reward by hand, the grammar, the labeller."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.config import WorldConfig
from seralign.errors import ConfigError
from seralign.laboratory import clauses
from seralign.laboratory.clauses import ENTITIES, EOS, FILLERS, VOCABULARY, WORDS, ClauseWorld

PROMPT = "e1 e2 e3 e4 <sep>"


@pytest.fixture(scope="module")
def by_hand() -> ClauseWorld:
    """e1 w1, e2 w2, e3 w3 and e4 w4 are worth 1, every other clause -1."""
    table = np.full((12, 8), -1)
    table[range(4), range(4)] = 1
    return ClauseWorld(WorldConfig(), table)


@pytest.mark.parametrize(
    ("response", "four_gold"),
    [
        ("e1 w1 e2 w2 e3 w3 e4 w4", 4),
        ("e1 w2 e2 w1 e3 w1 e4 w1", -4),
        ("e1 w1 e2 w1", 0),  # 1 - 1; e3 and e4, never mentioned, count nothing
        ("e1 w1 e1 w1", 1),  # 1 + min(0, 1)
        ("e1 w1 e1 w2", 0),  # 1 + min(0, -1)
        ("e1 w2 e1 w1", -1),  # -1 + min(0, 1): the first mention decides
        ("e5 w1 e1 w1", 0),  # -1 foreign + 1
        ("e5 w1 e5 w1", -2),  # each foreign clause costs
        ("e1 e2 w2", 0),  # -1 for the entity without a word + 1
        ("e1 w1 w2", 0),  # 1 - 1 for the word without an entity
        ("e1 f1 w1", -2),  # a filler parts them: both malformed
        ("e1 w1 e2", 0),  # 1 - 1: unfinished
        ("w1 e1", -2),
        ("", 0),
        ("   ", 0),
        ("f1 f2 f3", 0),
        ("<eos>", 0),
        ("e1 w1 <eos> e2 w2 <pad>", 1),  # nothing counts after the end
        ("e1 w1<eos>", 1),
        ("<bos> e1 w1 <pad> <pad>", 1),
        ("e1 w1 <sep>", 0),  # 1 - 1: a separator is malformed in a response
        ("Hello, world! \u00e9\n{}", -4),  # four tokens that are none of ours: "Hello,", "world!", "\u00e9", "{}"
        ("E1 w1", -2),  # "E1" is no entity
        ("e13 w9", -2),
    ],
)
def test_gold_by_hand(by_hand: ClauseWorld, response: str, four_gold: int) -> None:
    """Four times the gold reward, worked out beside each response: first mentions count the table's value, repeats
    its negative part, foreign clauses and malformed tokens -1 each."""
    assert by_hand.score([PROMPT], [response]).tolist() == [four_gold / 4]


@pytest.mark.parametrize(
    "prompt", ["<bos> e1 e2 e3 e4 <sep>", "<bos>e1 e2 e3 e4<sep>", "e4 e3 e2 e1", "<pad> <bos> " + PROMPT]
)
def test_specials_and_order_in_the_prompt_do_not_matter(by_hand: ClauseWorld, prompt: str) -> None:
    responses = ["e1 w1 e2 w2 e3 w3 e4 w4", "e4 w4 e9 w1"]
    assert by_hand.score([prompt] * 2, responses).tolist() == [1.0, 0.0]


def test_scores_follow_their_own_prompt(by_hand: ClauseWorld) -> None:
    prompts = [PROMPT, "e5 e6 e7 e8 <sep>"]
    assert by_hand.score(prompts, ["e1 w1", "e1 w1"]).tolist() == [0.25, -0.25]
    assert by_hand.score([], []).shape == (0,)
    with pytest.raises(ValueError, match="zip"):
        by_hand.score([PROMPT], [])


TOKEN = st.sampled_from([*VOCABULARY, "x"])


@given(st.lists(TOKEN, max_size=30))
def test_gold_of_any_text_is_bounded(by_hand: ClauseWorld, tokens: list[str]) -> None:
    gold = by_hand.score([PROMPT], [" ".join(tokens)])[0]
    assert -len(tokens) / 4 <= gold <= 1.0


@given(
    st.lists(st.tuples(st.sampled_from(ENTITIES), st.sampled_from(WORDS)), max_size=6),
    st.lists(st.lists(st.sampled_from(FILLERS), max_size=9), min_size=7, max_size=7),
)
def test_fillers_between_clauses_never_count(
    by_hand: ClauseWorld, body: list[tuple[str, str]], fillers: list[list[str]]
) -> None:
    plain = " ".join(f"{e} {w}" for e, w in body)
    filled = " ".join(
        [*fillers[0], *(t for (e, w), slot in zip(body, fillers[1:], strict=False) for t in (e, w, *slot))]
    )
    assert by_hand.score([PROMPT], [filled]) == by_hand.score([PROMPT], [plain])


def test_table_is_balanced() -> None:
    for seed in range(5):
        table = clauses.draw_world(WorldConfig(seed=seed)).table
        assert table.shape == (12, 8)
        assert (table.sum(axis=1) == 3 - 5).all()
        assert ((table == -1).all(axis=0)).sum() >= 2
    first, second = (clauses.draw_world(WorldConfig(seed=seed)).table for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_negative_seed_names_its_key() -> None:
    with pytest.raises(ConfigError, match=r"world\.seed must be at least 0, got -1"):
        clauses.draw_world(WorldConfig(seed=-1))


def test_demonstrations_have_the_grammar() -> None:
    """Wrong entities: 10% of the clauses. Fillers: 5 slots x 2 places x E[rho] = 5 a response, variance within a
    response 10 E[rho (1 - rho)] + 100 Var(rho) = 10 (.25 - .64/12) + 100 (.64/12) = 1.967 + 5.333 = 7.3."""
    rows = clauses.demonstrations(clauses.draw_world(WorldConfig(demonstrations=8000)))
    assert len(rows) == 8000
    wrong, fillers, words = 0, [], Counter()
    for row in rows:
        asked = row["prompt"].split()
        assert len(set(asked[:4])) == 4
        assert asked[4:] == ["<sep>"]
        tokens = row["response"].split()
        body = [token for token in tokens if token not in FILLERS]
        assert len(body) == 8
        assert all(token in ENTITIES for token in body[::2])
        assert all(token in WORDS for token in body[1::2])
        assert EOS not in tokens
        wrong += sum(said != meant for said, meant in zip(body[::2], asked, strict=False))
        fillers.append(len(tokens) - 8)
        words.update(body[1::2])
    assert wrong / 32000 == pytest.approx(0.1, abs=0.007)
    assert np.mean(fillers) == pytest.approx(5.0, abs=0.12)
    assert np.var(fillers) == pytest.approx(7.3, abs=0.3)
    assert min(fillers) == 0
    assert 9 + max(fillers) == clauses.MAX_RESPONSE_TOKENS == 19
    assert all(count / 32000 == pytest.approx(1 / 8, abs=0.008) for count in words.values())


@pytest.mark.parametrize(
    ("labeller", "longer", "shorter", "agrees", "disagrees"),
    [
        ((2.0, 0.3, 0.2), 0.49, 0.41, 0.59, 0.16),
        ((2.0, 0.3, 0.4), 0.47, 0.43, 0.44, 0.31),
        ((2.0, 1.0, 0.2), 0.57, 0.34, 0.54, 0.21),
    ],
    ids="ABC",
)
def test_labels_are_as_confounded_as_designed(
    labeller: tuple[float, float, float], longer: float, shorter: float, agrees: float, disagrees: float
) -> None:
    """Shares of 4,000 pairs in which the chosen response is longer or shorter, and better or worse by gold."""
    strength, length, noise = labeller
    world = clauses.draw_world(WorldConfig(gold_strength=strength, length_strength=length, noise=noise))
    rows = clauses.offline_pairs(world)
    assert len(rows) == 4000
    prompts = [row["prompt"] for row in rows]
    gold = [world.score(prompts, [row[side] for row in rows]) for side in ("chosen", "rejected")]
    assert gold[0].tolist() == [row["gold_chosen"] for row in rows]
    assert gold[1].tolist() == [row["gold_rejected"] for row in rows]
    lengths = np.array([[len(row[side].split()) for row in rows] for side in ("chosen", "rejected")])
    shares = [
        np.mean(x) for x in (lengths[0] > lengths[1], lengths[0] < lengths[1], gold[0] > gold[1], gold[0] < gold[1])
    ]
    assert shares == pytest.approx([longer, shorter, agrees, disagrees], abs=0.03)
    assert np.mean([row["flipped"] for row in rows]) == pytest.approx(noise, abs=0.02)


def test_the_labeller_alone_changes_only_which_response_is_chosen() -> None:
    base = WorldConfig(pairs=300, gold_strength=1e6, length_strength=0.0, noise=0.0)
    exact = clauses.offline_pairs(clauses.draw_world(base))
    assert all(row["gold_chosen"] >= row["gold_rejected"] for row in exact)
    flipped = clauses.offline_pairs(clauses.draw_world(dataclasses.replace(base, noise=1.0)))
    assert all(row["flipped"] for row in flipped)
    for before, after in zip(exact, flipped, strict=True):
        assert (before["chosen"], before["rejected"]) == (after["rejected"], after["chosen"])
        assert before["prompt"] == after["prompt"]


def test_length_alone_can_be_the_label() -> None:
    config = WorldConfig(pairs=300, gold_strength=0.0, length_strength=1e6, noise=0.0)
    rows = clauses.offline_pairs(clauses.draw_world(config))
    assert all(len(row["chosen"].split()) >= len(row["rejected"].split()) for row in rows)


def test_pairs_are_half_careless() -> None:
    """Wrong entities: (10% + 25%) / 2 of the clauses."""
    rows = clauses.offline_pairs(clauses.draw_world(WorldConfig()))
    shares = []
    for row in rows:
        for side in ("chosen", "rejected"):
            said = [token for token in row[side].split() if token in ENTITIES]
            shares.append(np.mean([a != b for a, b in zip(said, row["prompt"].split(), strict=False)]))
    assert np.mean(shares) == pytest.approx(0.175, abs=0.008)


def test_one_count_leaves_the_rest_as_it_was() -> None:
    few = WorldConfig(pairs=50, demonstrations=60, prompts=70, heldout=80)
    parts = {
        "pairs": clauses.offline_pairs,
        "demonstrations": clauses.demonstrations,
        "prompts": clauses.bootstrap_prompts,
        "heldout": clauses.heldout_pairs,
    }
    before = {name: make(clauses.draw_world(few)) for name, make in parts.items()}
    for changed in parts:
        world = clauses.draw_world(dataclasses.replace(few, **{changed: 90}))
        for name, make in parts.items():
            rows = make(world)
            assert len(rows) == (90 if name == changed else len(before[name]))
            assert (rows == before[name]) == (name != changed)


def test_every_kind_has_its_own_prompts() -> None:
    world = clauses.draw_world(WorldConfig(pairs=50, demonstrations=50, prompts=50))
    parts = (clauses.offline_pairs, clauses.demonstrations, clauses.bootstrap_prompts)
    prompts = [{row["prompt"] for row in make(world)} for make in parts]
    assert max(len(a & b) for a, b in itertools.combinations(prompts, 2)) < 10


def test_heldout_prompts_are_new_in_any_order() -> None:
    world = clauses.draw_world(WorldConfig(pairs=9000, heldout=3000))
    sets = [
        {frozenset(row["prompt"].split()) for row in rows}
        for rows in (
            clauses.heldout_pairs(world),
            [*clauses.offline_pairs(world), *clauses.demonstrations(world), *clauses.bootstrap_prompts(world)],
        )
    ]
    assert not sets[0] & sets[1]
    assert len(sets[0]) + len(sets[1]) == 495  # all choices of 4 entities out of 12
    assert len(sets[0]) == 124  # a quarter of them


def test_prompts_come_twice_only_after_all_have_come() -> None:
    world = clauses.draw_world(WorldConfig(prompts=(495 - 124) * 24 + 5))
    counts = Counter(row["prompt"] for row in clauses.bootstrap_prompts(world))
    assert Counter(counts.values()) == {1: 371 * 24 - 5, 2: 5}
