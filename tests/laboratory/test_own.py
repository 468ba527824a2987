"""A world of one's own, its pure part: how prompts are shared out, and how candidates become labelled pairs."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from seralign.config import OwnWorldConfig, SourceConfig, WorldConfig
from seralign.errors import ConfigError, DataError
from seralign.laboratory.own import OwnWorld, pairs_per_prompt, sampled_pairs, split_prompts
from seralign.laboratory.world import load_world, read_truth, write_world
from seralign.records import Candidate, Prompt, content_id


@pytest.fixture(autouse=True)
def gold(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module ``gold``: a response is worth its number of ``a``, and one more where the prompt has it."""
    module = ModuleType("gold")
    exec(
        "def score(prompts, responses):\n"
        "    return [r.count('a') + (r in p) for p, r in zip(prompts, responses, strict=True)]\n",
        module.__dict__,
    )
    monkeypatch.setitem(sys.modules, "gold", module)
    return module


def world(**settings: object) -> OwnWorld:
    own = OwnWorldConfig(SourceConfig("p.jsonl"), "gold:score", style_token="so")
    return OwnWorld(WorldConfig(name="own", own=own, **settings))  # pyright: ignore[reportArgumentType]


def candidates(prompt: str, *texts: str | None) -> list[Candidate]:
    """``None``: an unfinished one. Token ids are made of the text's letters, 0 ends."""
    return [
        Candidate(prompt, index, text or "zzz", tuple(ord(c) for c in text or "zzz") + (0,) * (text is not None),
                  text is not None)
        for index, text in enumerate(texts)
    ]  # fmt: skip


def test_every_prompt_is_for_one_thing() -> None:
    config = world(heldout=5, validation=3, seed=2).config
    split = split_prompts(config, 20)
    assert {name: len(rows) for name, rows in split.items()} == {"pairs": 12, "heldout": 5, "validation": 3}
    assert sorted(np.concatenate(list(split.values())).tolist()) == list(range(20))
    with pytest.raises(ConfigError, match=r"world\.heldout \(5\) and world\.validation \(3\) leave none of the 8"):
        split_prompts(config, 8)


def test_pairs_per_prompt_round_up() -> None:
    assert [pairs_per_prompt(*given) for given in ((10, 5), (11, 5), (3, 3), (1, 1))] == [2, 3, 1, 1]


def test_candidates_make_pairs_two_by_two() -> None:
    """Without noise and with a labeller who follows gold alone, the response with more ``a`` is chosen."""
    asked = [Prompt("p", "P a", (80, 1)), Prompt("q", "Q", (81, 1))]
    answers = candidates("p", "b", "aa", "a", "bb") + candidates("q", "aaa", "a", "b", "a")
    made = world(noise=0.0, gold_strength=1e6, spurious_strength=0.0)
    rows, left_out = sampled_pairs(made, "pairs", asked, answers, 4)
    assert left_out == {}
    texts = [tuple("".join(chr(t) for t in row[f"{side}_ids"][:-1]) for side in ("chosen", "rejected")) for row in rows]
    assert texts == [("aa", "b"), ("aaa", "a"), ("a", "bb"), ("a", "b")]
    assert [row["prompt_ids"] for row in rows] == [[80, 1], [81, 1], [80, 1], [81, 1]]
    # "a" is in the first prompt, so it is worth 2 there and 1 in the second.
    assert [(row["gold_chosen"], row["gold_rejected"]) for row in rows] == [(2, 0), (3, 1), (2, 0), (1, 0)]
    assert rows[0]["pair_id"] == content_id([[80, 1], [97, 97, 0], [98, 0]])
    assert all(row["chosen_ids"][-1] == 0 for row in rows)
    assert sampled_pairs(made, "pairs", asked, answers, 3)[0] == rows[:3]


def test_what_makes_no_pair_is_counted() -> None:
    asked = [Prompt("p", "P", (80,))]
    answers = candidates("p", "a", None, " ", "a", "b", " b ", "c", "d")
    rows, left_out = sampled_pairs(world(), "pairs", asked, answers, 9)
    assert left_out == {"unfinished": 1, "empty": 1, "equal responses": 1}
    assert len(rows) == 1
    with pytest.raises(DataError, match=r"no two responses to 1 prompts make a pair \(1 unfinished\)"):
        sampled_pairs(world(), "pairs", asked, answers[:2], 9)


def test_the_labeller_is_that_of_all_worlds() -> None:
    """Soft labels: p = sigmoid(2 (2 - 1)) with two ``a`` against one, the strengths' default but no spurious part."""
    asked = [Prompt("p", "P", (80,))]
    made = world(noise=0.0, spurious_strength=0.0, soft_labels=True)
    rows, _ = sampled_pairs(made, "pairs", asked, candidates("p", "ab", "aab"), 1)
    assert rows[0]["p"] == pytest.approx(1 / (1 + np.exp(-2.0)))
    liking = world(noise=0.0, gold_strength=0.0, spurious_strength=1e6, spurious="style")
    rows, _ = sampled_pairs(liking, "pairs", asked, candidates("p", "a a a", "so so"), 1)
    assert rows[0]["gold_chosen"] == 0
    assert rows[0]["gold_rejected"] == 3


def test_a_folder_scores_again(tmp_path: Path) -> None:
    made = world(heldout=5)
    rows, _ = sampled_pairs(made, "pairs", [Prompt("p", "P", (80,))], candidates("p", "a", "b"), 1)
    write_world(made, {"pairs": rows}, tmp_path)
    again = load_world(tmp_path)
    assert again.config == made.config
    assert again.score(["x aa", "x"], ["aa", "aa"]).tolist() == [3.0, 2.0]
    assert read_truth(tmp_path).pair_ids == [rows[0]["pair_id"]]


def test_a_scorer_that_is_not_there_is_named() -> None:
    own = OwnWorldConfig(SourceConfig("p.jsonl"), "gold:nothing")
    with pytest.raises(ConfigError, match=r"world\.own\.scorer: module 'gold' has no function 'nothing'"):
        OwnWorld(WorldConfig(name="own", own=own)).score(["p"], ["r"])
