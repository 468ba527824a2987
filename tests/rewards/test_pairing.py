"""Candidates, contrasts and mixing: by hand, and as properties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from seralign.data.table import PROMPT_COLUMNS, to_prompt
from seralign.records import Candidate, Pair, Prompt, Ranking, Response
from seralign.rewards.pairing import (
    Contrast,
    contrasts,
    draw_prompts,
    generated_example,
    generated_examples,
    judged_contrasts,
    matched_contrasts,
    mix,
    rankings,
)
from seralign.rewards.usable import usable_responses

# --- contrasts


def candidate(prompt: str, index: int, text: str, finished: bool = True) -> Candidate:
    return Candidate(prompt, index, text, tuple(text.encode()), finished)


def contrasts_of(candidates: Sequence[Candidate], rewards: np.ndarray) -> tuple[list[Contrast], Counter[str]]:
    """The contrasts of all candidates, and everything that was left out."""
    usable, left_out = usable_responses(table_of(candidates))
    found, without = contrasts(usable, rewards)
    return list(found), left_out + without


def table_of(candidates: Sequence[Candidate]) -> pa.Table:
    names = ("prompt_id", "index", "text", "ids", "finished")
    return pa.table({name: [getattr(each, name) for each in candidates] for name in names})


def test_best_and_worst_by_hand() -> None:
    """Prompt a: rewards 1, 3, -2 give 3 over -2. Prompt b: the highest and the lowest reward are of no use."""
    candidates = [
        candidate("a", 0, "one"),
        candidate("a", 1, "two"),
        candidate("a", 2, "three"),
        candidate("b", 0, "cut", finished=False),
        candidate("b", 1, "good"),
        candidate("b", 2, " \n"),
        candidate("b", 3, "bad"),
        candidate("b", 4, " good "),
    ]
    found, left_out = contrasts_of(candidates, np.array([1.0, 3.0, -2.0, 99.0, 0.5, -99.0, 0.25, 98.0]))
    assert [(c.prompt_id, c.rows[0], c.rows[-1], c.margin) for c in found] == [("a", 1, 2, 5.0), ("b", 4, 6, 0.25)]
    assert left_out == {"unfinished": 1, "empty": 1, "repeated": 1}


@pytest.mark.parametrize(
    ("texts", "rewards", "reason"),
    [
        (["same", "same ", "\nsame"], [1.0, 2.0, 3.0], {"repeated": 2, "prompts without two responses": 1}),
        (["", " "], [1.0, 2.0], {"empty": 2, "prompts without two responses": 1}),
        (["only"], [1.0], {"prompts without two responses": 1}),
        (["x", "y"], [0.5, 0.5], {"no contrast": 1}),
    ],
)
def test_prompts_that_make_no_pair_are_counted(texts: list[str], rewards: list[float], reason: dict[str, int]) -> None:
    found, left_out = contrasts_of(
        [candidate("a", index, text) for index, text in enumerate(texts)], np.array(rewards, dtype=np.float64)
    )
    assert found == []
    assert left_out == reason


def test_equal_rewards_are_ordered_by_index() -> None:
    candidates = [candidate("a", index, text) for index, text in enumerate("wxyz")]
    (found,), _ = contrasts_of(candidates, np.array([0.0, 1.0, 1.0, 0.0]))
    assert (found.rows[0], found.rows[-1]) == (1, 3)


@st.composite
def sampled(draw: st.DrawFn) -> tuple[list[Candidate], np.ndarray]:
    """Candidates of up to four prompts with few different texts and rewards, so that everything happens."""
    candidates = [
        candidate(f"prompt-{prompt}", index, draw(st.sampled_from(["", " ", "x", "x ", "y", "z"])), draw(st.booleans()))
        for prompt in range(draw(st.integers(1, 4)))
        for index in range(draw(st.integers(1, 6)))
    ]
    rewards = [draw(st.sampled_from([-1.5, 0.0, 0.25, 2.0])) for _ in candidates]
    return candidates, np.array(rewards)


@given(sampled(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(given_: tuple[list[Candidate], np.ndarray], random: Any) -> None:
    candidates, rewards = given_
    order = list(range(len(candidates)))
    random.shuffle(order)
    shuffled = [candidates[at] for at in order]
    first, first_left_out = contrasts_of(candidates, rewards)
    second, second_left_out = contrasts_of(shuffled, rewards[order])
    assert {(candidates[c.rows[0]], candidates[c.rows[-1]], c.margin) for c in first} == {
        (shuffled[c.rows[0]], shuffled[c.rows[-1]], c.margin) for c in second
    }
    assert first_left_out == second_left_out


@given(sampled())
def test_best_and_worst_are_the_extremes_of_what_may_make_a_pair(given_: tuple[list[Candidate], np.ndarray]) -> None:
    candidates, rewards = given_
    found, left_out = contrasts_of(candidates, rewards)
    for contrast in found:
        best, worst = candidates[contrast.rows[0]], candidates[contrast.rows[-1]]
        assert best.prompt_id == worst.prompt_id == contrast.prompt_id
        assert best.finished
        assert worst.finished
        assert best.text.strip() != worst.text.strip()
        # Of equal texts the first alone stands for all.
        first: dict[str, int] = {}
        for at in sorted(range(len(candidates)), key=lambda at: candidates[at].index):
            if candidates[at].prompt_id == contrast.prompt_id and candidates[at].finished:
                first.setdefault(candidates[at].text.strip(), at)
        usable = [rewards[at] for text, at in first.items() if text]
        assert (rewards[contrast.rows[0]], rewards[contrast.rows[-1]]) == (max(usable), min(usable))
        assert contrast.margin == max(usable) - min(usable) > 0
    prompts = {c.prompt_id for c in candidates}
    assert len(found) + left_out["prompts without two responses"] + left_out["no contrast"] == len(prompts)
    assert left_out["unfinished"] == sum(not c.finished for c in candidates)
    assert left_out["empty"] == sum(c.finished and not c.text.strip() for c in candidates)


def test_only_responses_of_like_length_are_matched() -> None:
    """Prompt a: 9 against 0 is the largest contrast, 40 tokens against 4; within a fifth, 10 and 9 tokens differ by 2,
    40 and 32 by 4. Prompt b: nobody is like anybody. Prompt c: like lengths have like rewards."""
    texts = {"a": ["o", "oo", "ooo", "oooo", "ooooo"], "b": ["x", "xx"], "c": ["y", "yy"]}
    rows = [candidate(prompt, index, text) for prompt, each in texts.items() for index, text in enumerate(each)]
    lengths = np.array([40, 32, 10, 9, 4, 10, 7, 5, 5])
    rewards = np.array([9.0, 5.0, 1.0, 3.0, 0.0, 2.0, 1.0, 1.0, 1.0])
    usable, _ = usable_responses(table_of(rows))
    found, left_out = matched_contrasts(usable, rewards, lengths, 0.2)
    assert [(c.prompt_id, c.rows[0], c.rows[-1], c.margin) for c in found] == [("a", 0, 1, 4.0)]
    assert left_out == {"prompts without two responses of like length": 1, "no contrast": 1}
    (wider, other), _ = matched_contrasts(usable, rewards, lengths, 0.95)
    assert [(c.rows[0], c.rows[-1], c.margin) for c in (wider, other)] == [(0, 4, 9.0), (5, 6, 1.0)]


def test_all_responses_to_a_prompt_are_ranked() -> None:
    """Rewards 1, 3, -2, 1 of prompt a: ranks 2, 1, 3, 2, whose five ordered pairs differ by 2, 2, 5, 3 and 3. Prompt b:
    one tie. Prompt c: two responses are the pair of the best and the worst."""
    texts = {"a": "wxyz", "b": "xy", "c": "xy"}
    rows = [candidate(prompt, index, text) for prompt, each in texts.items() for index, text in enumerate(each)]
    rewards = np.array([1.0, 3.0, -2.0, 1.0, 0.5, 0.5, 0.25, 2.0])
    usable, _ = usable_responses(table_of(rows))
    found, left_out = rankings(usable, rewards)
    assert [(c.prompt_id, c.rows, c.preference, c.margin) for c in found] == [
        ("a", (1, 0, 3, 2), Ranking((1, 2, 2, 3)), 3.0),
        ("c", (7, 6), Ranking((1, 2)), 1.75),
    ]
    assert left_out == {"no contrast": 1}
    (pair,) = (each for each in contrasts(usable, rewards)[0] if each.prompt_id == "c")
    assert (pair.rows, pair.margin) == (found[1].rows, found[1].margin)
    (only,), few = rankings(usable, rewards, 3)
    assert (only.prompt_id, few) == ("a", {"prompts with fewer than 3 responses": 2})


def test_contrasts_are_a_sequence() -> None:
    rows = [candidate(prompt, index, text) for prompt in "ab" for index, text in enumerate("xyz")]
    usable, _ = usable_responses(table_of(rows))
    found, _ = contrasts(usable, np.array([1.0, 2.0, 3.0, 3.0, 2.0, 0.0]))
    pairs = [Contrast("a", (2, 0), Pair(), 2.0), Contrast("b", (3, 5), Pair(), 3.0)]
    assert list(found) == [found[0], found[-1]] == found[:] == pairs
    assert [(name, own.tolist()) for name, own in usable.items()] == [("a", [0, 1, 2]), ("b", [3, 4, 5])]
    with pytest.raises(IndexError):
        found[2]


def test_a_judge_labels_pairs_and_turns_those_that_it_prefers_the_other_way_round() -> None:
    found = [Contrast(name, (2 * at, 2 * at + 1), Pair(), 1.5) for at, name in enumerate("abcd")]
    made, left_out = judged_contrasts(found, [0.9, 0.2, None, 0.5])
    assert made == [
        Contrast("a", (0, 1), Pair(0.9), 1.5),
        Contrast("b", (3, 2), Pair(0.8), -1.5),
    ]
    # A tie names no response to prefer.
    assert left_out == {"without a verdict": 1, "tie": 1}


def test_a_generated_pair_is_named_by_round_and_content() -> None:
    prompt = Prompt("p", "question", (1, 2))
    pair = generated_example(3, prompt, [candidate("p", 0, "good"), candidate("p", 1, "bad")], Pair())
    assert (pair.origin, pair.prompt, pair.preference, pair.weight) == ("generated:3", prompt, Pair(), 1.0)
    assert pair.responses == (Response("good", tuple(b"good")), Response("bad", tuple(b"bad")))
    again = generated_example(3, prompt, [candidate("p", 7, "good"), candidate("p", 5, "bad")], Pair())
    assert again.example_id == pair.example_id
    other_round = generated_example(2, prompt, [candidate("p", 0, "good"), candidate("p", 1, "bad")], Pair())
    swapped = generated_example(3, prompt, [candidate("p", 0, "bad"), candidate("p", 1, "good")], Pair())
    assert len({pair.example_id, other_round.example_id, swapped.example_id}) == 3


def test_pairs_are_made_of_their_own_prompts_and_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows at a time, so that there are several times; the contrasts in an order of their own."""
    monkeypatch.setattr("seralign.rewards.pairing.CHUNK", 2)
    prompts = tiny.prompts_table(7)
    candidates = [candidate(name, index, f"{name} {index}") for name in prompts["prompt_id"] for index in range(3)]
    found = [Contrast(candidates[at].prompt_id, (at, at + 1), Pair(), 1.0) for at in (9, 0, 18, 6, 3)]
    records = {row["prompt_id"]: to_prompt(row) for row in map(dict, prompts)}
    table = table_of(candidates)
    for ours, theirs in zip(PROMPT_COLUMNS[1:], ("text", "ids", "messages", "template_inputs"), strict=True):
        table = table.append_column(ours, [[value for value in prompts[theirs] for _ in range(3)]])
    pairs = list(generated_examples(2, table, found))
    assert pairs == [
        generated_example(2, records[each.prompt_id], [candidates[row] for row in each.rows], Pair()) for each in found
    ]
    assert list(generated_examples(2, table, [])) == []


# --- mixing


@pytest.mark.parametrize(
    ("kept", "generated", "total", "share", "wanted"),
    [
        (8, 5, 10, 0.3, (7, 3)),
        (100, 100, 100, 0.3, (70, 30)),
        (70, 60, 100, 0.7, (40, 60)),
        (70, 60, 100, 0.1, (70, 7)),  # 10 of 80 would be more than a tenth
        (70, 1, 100, 0.7, (70, 1)),  # offline pairs make room only for pairs that are there
        (70, 0, 100, 0.5, (70, 0)),
        (70, 60, 100, 0.0, (70, 0)),
        (1000, 1000, 1000, 0.29, (710, 290)),
    ],
)
def test_mix_by_hand(kept: int, generated: int, total: int, share: float, wanted: tuple[int, int]) -> None:
    assert mix(kept, generated, total, share) == wanted


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 20), st.floats(0.0, 0.95))
def test_mix_never_exceeds_the_share_and_leaves_nothing_out_that_fits(
    kept: int, generated: int, dropped: int, share: float
) -> None:
    total = kept + dropped
    own, made = mix(kept, generated, total, share)
    assert own + made <= total
    assert made <= share * (own + made) + 1e-6
    assert own == min(kept, total - made)
    if made < generated:
        one_more = min(kept, total - made - 1)
        assert (made + 1) / (one_more + made + 1) > share - 1e-6


def test_drawn_prompts_keep_their_order() -> None:
    prompts = tiny.prompts_table(30)
    for all_of_them in (None, 30, 31):
        assert draw_prompts(prompts, all_of_them, 1) is prompts
    assert len(draw_prompts(prompts, 0, 1)) == 0
    drawn = [draw_prompts(prompts, 10, seed)["prompt_id"][:] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    for names in drawn:
        assert len(set(names)) == 10
        assert names == [name for name in prompts["prompt_id"] if name in set(names)]
