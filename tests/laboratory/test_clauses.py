"""The clause world: gold reward by hand, the table, the sources."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.config import WorldConfig
from seralign.laboratory import clauses
from seralign.laboratory.clauses import ENTITIES, FILLERS, VOCABULARY, WORDS, ClauseWorld
from seralign.laboratory.grammar import CARELESS, EOS, STRANGER, SUPERVISED, demonstrations, offline_pairs

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


def test_demonstrations_have_the_grammar() -> None:
    """Wrong entities: 10% of the clauses. Fillers: 5 slots x 2 places x E[rho] = 5 a response, variance within a
    response 10 E[rho (1 - rho)] + 100 Var(rho) = 10 (.25 - .64/12) + 100 (.64/12) = 1.967 + 5.333 = 7.3."""
    rows = demonstrations(clauses.draw_world(WorldConfig(demonstrations=8000)))
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


def test_pairs_are_half_careless() -> None:
    """Wrong entities: (10% + 25%) / 2 of the clauses."""
    rows = offline_pairs(clauses.draw_world(WorldConfig()))
    shares = []
    for row in rows:
        for side in ("chosen", "rejected"):
            said = [token for token in row[side].split() if token in ENTITIES]
            shares.append(np.mean([a != b for a, b in zip(said, row["prompt"].split(), strict=False)]))
    assert np.mean(shares) == pytest.approx(0.175, abs=0.008)


def test_sources_differ_in_slips_and_order_alone() -> None:
    """The same random numbers: a stranger's clauses are the supervised ones from the last to the first, a careless
    source's entities differ where the chance lies between 0.1 and 0.25."""
    world = clauses.draw_world(WorldConfig())
    prompts = np.tile([0, 1, 2, 3], (4000, 1))
    texts = {
        source: world.write(np.random.default_rng(5), prompts, np.full(4000, source))
        for source in (SUPERVISED, CARELESS, STRANGER)
    }

    def said(text: str) -> list[str]:
        return [token for token in text.split() if token not in FILLERS]

    for plain, strange in zip(texts[SUPERVISED], texts[STRANGER], strict=True):
        body, turned = said(plain), said(strange)
        assert [turned[at : at + 2] for at in (6, 4, 2, 0)] == [body[at : at + 2] for at in (0, 2, 4, 6)]
        assert len(plain.split()) == len(strange.split())
    changed = []
    for plain, careless in zip(texts[SUPERVISED], texts[CARELESS], strict=True):
        assert said(plain)[1::2] == said(careless)[1::2]
        changed.append(np.mean([a != b for a, b in zip(said(plain)[::2], said(careless)[::2], strict=True)]))
    assert np.mean(changed) == pytest.approx(0.15, abs=0.01)
