"""Scores and goals: other things that a labeller says of the same responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from seralign.config import WorldConfig, load_config
from seralign.errors import ConfigError
from seralign.laboratory.feedback import goal_rows, scored_rows
from seralign.laboratory.grammar import (
    Grammar,
    bootstrap_prompts,
    demonstrations,
    heldout_pairs,
    offline_pairs,
    validation_pairs,
)
from seralign.laboratory.labels import surface
from seralign.laboratory.world import GRAMMARS

PAIR = {"pair_id": "a", "prompt": "p", "chosen": "c", "rejected": "r", "gold_chosen": 1.0, "gold_rejected": -1.0,
        "flipped": False}  # fmt: skip


def draw(name: str, feedback: str, **settings: Any) -> Grammar:
    small = {"pairs": 300, "heldout": 40, "validation": 20, "prompts": 30, "demonstrations": 200}
    values: dict[str, Any] = {**small, **settings, "name": name, "feedback": feedback}
    config = WorldConfig(**values)
    return GRAMMARS[name](config)


def test_rows_by_hand() -> None:
    """Two grades are cut at the median of all scores, 2.35."""
    rows = [PAIR | {"pair_id": name} for name in "abcd"]
    scores = np.array([[4.0, 3.0], [2.0, 1.0], [6.0, 2.2], [2.5, 2.1]])
    (first, *_) = scored_rows(rows, scores)
    assert first == {"pair_id": "a", "prompt": "p", "gold_chosen": 1.0, "gold_rejected": -1.0, "flipped": False,
                     "responses": ["c", "r"], "scores": [4.0, 3.0]}  # fmt: skip
    found = goal_rows(rows, scores, ("low", "high"))
    assert [(row["pair_id"], row["prompt"], row["chosen"]) for row in found] == [
        ("a", "high p", "c"), ("b", "low p", "c"), ("c", "high p", "c"), ("c-turned", "low p", "r"),
        ("d", "high p", "c"), ("d-turned", "low p", "r"),
    ]  # fmt: skip
    assert found[3] == PAIR | {"pair_id": "c-turned", "prompt": "low p", "chosen": "r", "rejected": "c",
                               "gold_chosen": -1.0, "gold_rejected": 1.0}  # fmt: skip


@pytest.mark.parametrize("name", sorted(GRAMMARS))
@pytest.mark.parametrize("part", [offline_pairs, heldout_pairs, validation_pairs])
def test_scores_have_the_order_of_the_labels(name: str, part: Callable[[Grammar], list[dict[str, Any]]]) -> None:
    """Of the same responses, whatever the form; their mean is that of what the labeller follows."""
    pairs, scored = part(draw(name, "pairs")), part(draw(name, "scores"))
    assert len(pairs) == len(scored)
    world = draw(name, "pairs")
    config = world.config
    for one, other in zip(pairs, scored, strict=True):
        assert [one["chosen"], one["rejected"]] == other["responses"]
        high, low = other["scores"]
        assert high > low
        assert {key: one[key] for key in ("pair_id", "prompt", "flipped")} == {
            key: other[key] for key in ("pair_id", "prompt", "flipped")
        }
        followed = config.gold_strength * world.points * (one["gold_chosen"] + one["gold_rejected"])
        followed += config.spurious_strength * float(surface("length", other["responses"], None).sum())
        assert high + low == pytest.approx(followed, abs=1e-9)


def test_without_noise_strong_labellers_score_the_gold_reward() -> None:
    """The logistic draw of a pair is some units, and the difference of gold a thousand times more."""
    world = draw("clauses", "scores", noise=0.0, spurious_strength=0.0, gold_strength=1000.0)
    for row in offline_pairs(world):
        scale = world.config.gold_strength * world.points
        assert row["scores"] == pytest.approx([scale * row["gold_chosen"], scale * row["gold_rejected"]], abs=20)


@pytest.mark.parametrize("name", sorted(GRAMMARS))
def test_goals(name: str) -> None:
    world, plain = draw(name, "goals"), draw(name, "pairs")
    grades = world.grades
    assert len(grades) == 4
    best = grades[-1]
    for part in (heldout_pairs, validation_pairs, bootstrap_prompts):
        asked = [row["prompt"] for row in part(world)]
        assert asked == [f"{best} {row['prompt']}" for row in part(plain)]
    texts = [(row["prompt"].partition(" "), row["response"]) for row in demonstrations(world)]
    assert [(prompt[2], response) for prompt, response in texts] == [
        (row["prompt"], row["response"]) for row in demonstrations(plain)
    ]
    counts = [sum(prompt[0] == grade for prompt, _ in texts) for grade in grades]
    assert min(counts) > 30
    rows = offline_pairs(world)
    turned = {row["pair_id"].removesuffix("-turned"): row for row in rows if row["pair_id"].endswith("-turned")}
    kept = {row["pair_id"]: row for row in rows if not row["pair_id"].endswith("-turned")}
    assert list(kept) == [row["pair_id"] for row in offline_pairs(plain)]
    assert len(turned) > 150
    for name_of, row in turned.items():
        first = kept[name_of]
        assert (row["chosen"], row["rejected"]) == (first["rejected"], first["chosen"])
        asked = [grades.index(each["prompt"].split()[0]) for each in (first, row)]
        assert asked[0] > asked[1]
    # The gold reward does not read the grade.
    prompts, responses = [row["prompt"] for row in rows], [row["chosen"] for row in rows]
    assert world.score(prompts, responses).tolist() == [row["gold_chosen"] for row in rows]


def test_feedback_that_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"soft_labels: feedback: scores has scores that are drawn; leave it out"):
        WorldConfig(feedback="scores", soft_labels=True)
    own = {"prompts": {"path": "p"}, "scorer": "gold:score"}
    with pytest.raises(ConfigError, match=r"world.feedback: the world own has pairs alone, got 'goals'"):
        load_config(None, {"out": "x", "policy.model": "m", "world": {"name": "own", "own": own, "feedback": "goals"}})
