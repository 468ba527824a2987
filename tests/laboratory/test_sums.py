"""The world of sums: gold reward by hand, who believes what, and how responses are written."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.config import WorldConfig
from seralign.laboratory import sums
from seralign.laboratory.grammar import CARELESS, STRANGER, SUPERVISED, demonstrations
from seralign.laboratory.sums import DIGITS, FILLERS, VOCABULARY, SumWorld

PROMPT = "7 5 8 3 <sep>"
"""7 + 5 = 2, 2 + 8 = 0, 0 + 3 = 3: the answer is 3, the last digit of 23."""
RIGHT = "7 + 5 = 2 2 + 8 = 0 0 + 3 = 3 answer 3"


@pytest.fixture(scope="module")
def world() -> SumWorld:
    return sums.draw_world(WorldConfig(name="sums"))


@pytest.mark.parametrize(
    ("response", "points"),
    [
        (RIGHT, 4),
        ("so 7 + 5 = 2 then well 2 + 8 = 0 0 + 3 = 3 now answer 3 so so", 4),
        ("3 + 8 = 1 1 + 5 = 6 6 + 7 = 3 answer 3", 4),  # from the last digit on
        ("7 + 5 = 2 8 + 3 = 1 1 + 2 = 3 answer 3", 4),  # two by two
        ("7 + 5 = 1 1 + 8 = 9 9 + 3 = 2 answer 2", 0),  # -1, then right by its own results, but a false answer
        ("7 + 5 = 2 2 + 8 = 0 0 + 3 = 3 answer 4", 2),
        ("7 + 5 = 2 2 + 8 = 0 0 + 4 = 4 answer 4", 0),  # 4 is not at hand
        ("7 + 5 = 2 7 + 8 = 5 5 + 3 = 8 answer 8", 0),  # 7 was used up
        ("7 + 5 = 2 2 + 2 = 4 4 + 8 = 2 answer 2", 0),  # only one 2 is at hand; 4 was put there all the same
        ("7 + 5 = 2 2 + 8 = 0 0 + 3 = 3", 2),  # no answer
        ("answer 3", -2),  # no step
        ("", -4),
        ("so then well now", -4),
        (f"{RIGHT} answer 3", 3),  # one answer too many
        (f"{RIGHT} 3 + 3 = 6", 3),  # one step too many
        (f"{RIGHT} +", 3),
        (f"{RIGHT} <sep>", 3),
        (f"{RIGHT} <eos> 1 + 1 = 3", 4),
        (f"<bos> {RIGHT}<eos><pad>", 4),
        ("7 + 5 so = 2 2 + 8 = 0 0 + 3 = 3 answer 3", -5),  # parted: five tokens of no step, and 2 is not at hand
        ("7 + 5 = x 7 + 5 = 2 2 + 8 = 0 0 + 3 = 3 answer 3", -1),  # five tokens of no step
        ("Hello answer", -6),
    ],
)
def test_gold_by_hand(world: SumWorld, response: str, points: int) -> None:
    """Four times the gold reward: three steps and the answer, +1 or -1 each, less one for what is too much."""
    assert world.score([PROMPT], [response]).tolist() == [points / 4]


def test_equal_digits_are_two_numbers(world: SumWorld) -> None:
    """Two 6 are at hand, so 6 + 6 may be worked out; with one 6 it may not."""
    responses = ["6 + 6 = 2 2 + 1 = 3 3 + 2 = 5 answer 5"] * 2
    assert world.score(["6 6 1 2 <sep>", "6 5 2 2 <sep>"], responses).tolist() == [1.0, 0.0]


def test_scores_follow_their_own_prompt(world: SumWorld) -> None:
    assert world.score([PROMPT, "<bos>7 5 8 4<sep>"], [RIGHT, RIGHT]).tolist() == [1.0, 0.0]
    assert world.score([], []).shape == (0,)
    with pytest.raises(ValueError, match="zip"):
        world.score([PROMPT], [])


@given(st.lists(st.sampled_from([*VOCABULARY, "x"]), max_size=30))
def test_gold_of_any_text_is_bounded(tokens: list[str]) -> None:
    world = sums.draw_world(WorldConfig(name="sums"))
    gold = world.score([PROMPT], [" ".join(tokens)])[0]
    assert -1 - len(tokens) / 4 <= gold <= 1.0


@given(
    st.lists(st.sampled_from(["7 + 5 = 2", "2 + 8 = 1", "1 + 3 = 4", "answer 3", "answer 4"]), max_size=6),
    st.lists(st.lists(st.sampled_from(FILLERS), max_size=4), min_size=7, max_size=7),
)
def test_fillers_between_pieces_never_count(pieces: list[str], fillers: list[list[str]]) -> None:
    world = sums.draw_world(WorldConfig(name="sums"))
    filled = [" ".join([*slot, piece]) for slot, piece in zip(fillers, [*pieces, ""], strict=False)]
    assert world.score([PROMPT], [" ".join(filled)]) == world.score([PROMPT], [" ".join(pieces)])


def test_beliefs_are_false_and_half_of_them_prevail() -> None:
    """55 unordered pairs of digits, 28 of them known."""
    for seed in range(3):
        world = sums.draw_world(WorldConfig(name="sums", seed=seed))
        total = np.add.outer(np.arange(10), np.arange(10)) % 10
        assert (world.beliefs != total).all()
        assert (world.beliefs == world.beliefs.T).all()
        assert (world.known == world.known.T).all()
        assert world.known[np.triu_indices(10)].sum() == 28
        assert len(set(world.beliefs.reshape(-1).tolist())) == 10
    first, second = (sums.draw_world(WorldConfig(name="sums", seed=seed)) for seed in (0, 1))
    assert not np.array_equal(first.beliefs, second.beliefs)
    assert not np.array_equal(first.known, second.known)


def steps_of(text: str) -> list[tuple[int, int, int]]:
    tokens = [token for token in text.split() if token not in FILLERS]
    assert len(tokens) == 17
    assert (tokens[1:15:5], tokens[3:15:5], tokens[15]) == (["+"] * 3, ["="] * 3, "answer")
    assert all(tokens[at] in DIGITS for start in (0, 5, 10) for at in (start, start + 2, start + 4))
    return [(int(tokens[at]), int(tokens[at + 2]), int(tokens[at + 4])) for at in (0, 5, 10)]


def test_demonstrations_have_the_grammar_and_the_beliefs() -> None:
    """Misread digits: 5%, of which a tenth is the right one by chance: 4.5%. Results: true with 0.65 + 0.1 / 10 where
    known and 0.25 + 0.1 / 10 where not; believed with 0.25 + 0.01 and 0.65 + 0.01."""
    world = sums.draw_world(WorldConfig(name="sums", demonstrations=20000))
    misread = 0
    results: dict[tuple[bool, str], int] = defaultdict(int)
    totals: Counter[bool] = Counter()
    for row in demonstrations(world):
        digits = [int(token) for token in row["prompt"].split()[:4]]
        total = digits[0]
        for (a, b, result), digit in zip(steps_of(row["response"]), digits[1:], strict=True):
            assert a == total
            misread += b != digit
            known = bool(world.known[a, b])
            totals[known] += 1
            results[known, "true"] += result == (a + b) % 10
            results[known, "believed"] += result == world.beliefs[a, b]
            total = result
        answer = [token for token in row["response"].split() if token not in FILLERS][-1]
        assert int(answer) == total
    assert misread / 60000 == pytest.approx(0.045, abs=0.004)
    for known, true, believed in ((True, 0.66, 0.26), (False, 0.26, 0.66)):
        assert results[known, "true"] / totals[known] == pytest.approx(true, abs=0.01)
        assert results[known, "believed"] / totals[known] == pytest.approx(believed, abs=0.01)


def test_responses_are_no_longer_than_said() -> None:
    rows = demonstrations(sums.draw_world(WorldConfig(name="sums")))
    assert max(len(row["response"].split()) for row in rows) + 1 == sums.MAX_RESPONSE_TOKENS == 28


def test_sources_differ_in_slips_and_order() -> None:
    """Digits as they were read: 4.5% wrong (supervised, stranger) or 18% (careless); a stranger reads from the last."""
    world = sums.draw_world(WorldConfig(name="sums"))
    prompts = np.tile([1, 2, 3, 4], (4000, 1))
    for source, digits, wrong in ((SUPERVISED, (2, 3, 4), 0.045), (CARELESS, (2, 3, 4), 0.18),
                                  (STRANGER, (3, 2, 1), 0.045)):  # fmt: skip
        texts = world.write(np.random.default_rng(3), prompts, np.full(4000, source))
        read = np.array([[step[1] for step in steps_of(text)] for text in texts])
        assert np.mean(read != digits) == pytest.approx(wrong, abs=0.01)
        assert {steps_of(text)[0][0] for text in texts} == {4 if source == STRANGER else 1}
