"""The rows of the built-in languages: who writes them, about which prompts, and what the labeller alone changes."""

import dataclasses
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seralign.config import WorldConfig
from seralign.errors import ConfigError
from seralign.laboratory.grammar import (
    Grammar,
    bootstrap_prompts,
    demonstrations,
    heldout_pairs,
    offline_pairs,
    prompt_space,
    validation_pairs,
)
from seralign.laboratory.world import GRAMMARS

LANGUAGES = sorted(GRAMMARS)
SPECIALS = ("<pad>", "<bos>", "<sep>", "<eos>")
PARTS = {
    "pairs": offline_pairs,
    "demonstrations": demonstrations,
    "prompts": bootstrap_prompts,
    "heldout": heldout_pairs,
    "validation": validation_pairs,
}


def draw(**settings: Any) -> Grammar:
    config = WorldConfig(**settings)
    return GRAMMARS[config.name](config)


def longer(rows: list[dict[str, Any]]) -> np.ndarray:
    return np.array([len(row["chosen"].split()) - len(row["rejected"].split()) for row in rows])


@pytest.mark.parametrize(
    ("labeller", "longer_chosen", "shorter_chosen", "agrees", "disagrees"),
    [
        ((2.0, 0.3, 0.2), 0.49, 0.41, 0.59, 0.16),
        ((2.0, 0.3, 0.4), 0.47, 0.43, 0.44, 0.31),
        ((2.0, 1.0, 0.2), 0.57, 0.34, 0.54, 0.21),
    ],
    ids="ABC",
)
def test_clauses_are_as_confounded_as_designed(
    labeller: tuple[float, float, float], longer_chosen: float, shorter_chosen: float, agrees: float, disagrees: float
) -> None:
    """Shares of 4,000 pairs in which the chosen response is longer or shorter, and better or worse by gold."""
    strength, length, noise = labeller
    rows = offline_pairs(draw(gold_strength=strength, spurious_strength=length, noise=noise))
    assert len(rows) == 4000
    gold = np.array([row["gold_chosen"] - row["gold_rejected"] for row in rows])
    length_difference = longer(rows)
    shares = [np.mean(x) for x in (length_difference > 0, length_difference < 0, gold > 0, gold < 0)]
    assert shares == pytest.approx([longer_chosen, shorter_chosen, agrees, disagrees], abs=0.03)
    assert np.mean([row["flipped"] for row in rows]) == pytest.approx(noise, abs=0.02)


@pytest.mark.parametrize("name", LANGUAGES)
def test_rows_carry_their_gold(name: str) -> None:
    world = draw(name=name, pairs=200, heldout=100, validation=50)
    for make in (offline_pairs, heldout_pairs, validation_pairs):
        rows = make(world)
        for side in ("chosen", "rejected"):
            gold = world.score([row["prompt"] for row in rows], [row[side] for row in rows])
            assert gold.tolist() == [row[f"gold_{side}"] for row in rows]
        assert len({row["pair_id"] for row in rows}) == len(rows)


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_token_is_in_the_vocabulary(name: str) -> None:
    world = draw(name=name, pairs=300, demonstrations=300)
    rows = offline_pairs(world)
    texts = [row[key] for row in rows for key in ("prompt", "chosen", "rejected")]
    texts += [row["response"] for row in demonstrations(world)]
    used = {token for text in texts for token in text.split()}
    assert used == set(world.vocabulary) - {"<pad>", "<bos>", "<eos>"}
    assert world.vocabulary[:4] == SPECIALS
    assert world.style_token in used


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_labeller_alone_changes_only_which_response_is_chosen(name: str) -> None:
    base = {"name": name, "pairs": 300}
    before = offline_pairs(draw(**base))
    for labeller in (
        {"noise": 0.0},
        {"noise": 1.0},
        {"gold_strength": 0.0, "spurious_strength": 5.0},
        {"spurious": "style"},
        {"spurious": "position", "spurious_strength": -3.0},
        {"soft_labels": True},
    ):
        after = offline_pairs(draw(**base | labeller))
        assert before != after
        for old, new in zip(before, after, strict=True):
            assert old["prompt"] == new["prompt"]
            assert {old["chosen"], old["rejected"]} == {new["chosen"], new["rejected"]}


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_ceiling_has_the_same_labels_but_for_the_flips(name: str) -> None:
    """With ``noise: 0`` every label stays that was no flip, and every flipped one is turned."""
    noisy, clean = (offline_pairs(draw(name=name, pairs=500, noise=noise)) for noise in (0.3, 0.0))
    assert not any(row["flipped"] for row in clean)
    assert np.mean([row["flipped"] for row in noisy]) == pytest.approx(0.3, abs=0.06)
    for old, new in zip(noisy, clean, strict=True):
        turned = (new["rejected"], new["chosen"]) if old["flipped"] else (new["chosen"], new["rejected"])
        assert (old["chosen"], old["rejected"]) == turned


@pytest.mark.parametrize("name", LANGUAGES)
def test_labels_by_gold_alone_are_right(name: str) -> None:
    rows = offline_pairs(draw(name=name, pairs=300, gold_strength=1e6, spurious_strength=0.0, noise=0.0))
    assert all(row["gold_chosen"] >= row["gold_rejected"] for row in rows)
    flipped = offline_pairs(draw(name=name, pairs=300, gold_strength=1e6, spurious_strength=0.0, noise=1.0))
    assert all(row["gold_chosen"] <= row["gold_rejected"] and row["flipped"] for row in flipped)


@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize("kind", ["length", "style", "position"])
def test_the_surface_alone_can_be_the_label(name: str, kind: str) -> None:
    world = draw(name=name, pairs=300, gold_strength=0.0, spurious_strength=1e6, noise=0.0, spurious=kind)
    token = world.style_token

    def feature(text: str) -> float:
        words = text.split()
        if kind == "length":
            return len(words)
        if kind == "style":
            return words.count(token)
        return (len(words) - words.index(token) - 1) / len(words) if token in words else 0.0

    differences = [feature(row["chosen"]) - feature(row["rejected"]) for row in offline_pairs(world)]
    assert min(differences) == 0
    assert np.mean(np.array(differences) > 0) > 0.5


@pytest.mark.parametrize("name", LANGUAGES)
def test_soft_labels_are_the_shares_of_drawn_ones(name: str) -> None:
    """A pair's p is the chance that a drawn label has its direction: over pairs, drawn labels agree with the soft
    ones as often as the mean p says (1,000 pairs: standard error at most 0.016)."""
    settings = {"name": name, "pairs": 1000, "noise": 0.1}
    drawn, soft = (offline_pairs(draw(**settings, soft_labels=flag)) for flag in (False, True))
    p = np.array([row["p"] for row in soft])
    assert not any(row["flipped"] for row in soft)
    assert "p" not in drawn[0]
    assert 0.5 <= p.min() < 0.7
    assert p.max() <= 0.9
    agreement = np.mean([a["chosen"] == b["chosen"] for a, b in zip(drawn, soft, strict=True)])
    assert agreement == pytest.approx(p.mean(), abs=0.05)


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_off_policy_share_is_the_share_of_the_other_source(name: str) -> None:
    """Without another source, the stranger's name changes nothing; with nobody else, no response is a supervised
    one's. In between, pairs are as many as before and some of their texts are the same."""
    pairs = {
        (share, source): offline_pairs(
            draw(name=name, pairs=300, off_policy_share=share, off_policy_source=source, noise=0.0)
        )
        for share, source in itertools.product((0.0, 0.5, 1.0), ("careless", "stranger"))
    }

    def texts(key: tuple[float, str]) -> list[set[str]]:
        return [{row["chosen"], row["rejected"]} for row in pairs[key]]

    assert texts((0.0, "careless")) == texts((0.0, "stranger"))
    supervised = texts((0.0, "stranger"))
    shares = []
    for share in (0.5, 1.0):
        mixed = texts((share, "stranger"))
        shares.append(np.mean([len(a & b) / len(a) for a, b in zip(supervised, mixed, strict=True)]))
    assert shares[0] == pytest.approx(0.5, abs=0.06)
    assert shares[1] < 0.02


@pytest.mark.parametrize("name", LANGUAGES)
def test_one_count_leaves_the_rest_as_it_was(name: str) -> None:
    few = {"name": name, "pairs": 50, "demonstrations": 60, "prompts": 70, "heldout": 80, "validation": 40}
    before = {part: make(draw(**few)) for part, make in PARTS.items()}
    for changed in PARTS:
        world = draw(**few | {changed: 90})
        for part, make in PARTS.items():
            rows = make(world)
            assert len(rows) == (90 if part == changed else few[part])
            assert (rows == before[part]) == (part != changed)


@pytest.mark.parametrize("name", LANGUAGES)
def test_held_out_prompts_are_new_in_any_order_and_validation_has_its_own(name: str) -> None:
    world = draw(name=name, pairs=4000, demonstrations=4000, heldout=1500, validation=800)
    held, checked = ({row["prompt"] for row in make(world)} for make in (heldout_pairs, validation_pairs))
    assert (len(held), len(checked)) == (1500, 800)
    assert not held & checked
    trained = {row["prompt"] for make in (offline_pairs, demonstrations, bootstrap_prompts) for row in make(world)}
    contents = [{tuple(sorted(prompt.split())) for prompt in prompts} for prompts in (held | checked, trained)]
    assert not contents[0] & contents[1]


def test_a_quarter_of_the_clauses_prompts_is_held_out() -> None:
    """495 choices of 4 entities out of 12, each in 24 orders; 124 are a quarter of them."""
    training, heldout = prompt_space(draw())
    assert (len(training), len(heldout)) == (371 * 24, 124 * 24)


@pytest.mark.parametrize("name", LANGUAGES)
def test_more_held_out_prompts_than_there_are_is_told(name: str) -> None:
    count = len(prompt_space(draw(name=name))[1])
    assert len(validation_pairs(draw(name=name, heldout=count - 5, validation=5))) == 5
    with pytest.raises(
        ConfigError, match=rf"world\.heldout \({count - 5}\) and world\.validation \(6\) must be at most"
    ):
        validation_pairs(draw(name=name, heldout=count - 5, validation=6))


def test_every_kind_has_its_own_prompts() -> None:
    world = draw(pairs=50, demonstrations=50, prompts=50)
    prompts = [{row["prompt"] for row in make(world)} for make in (offline_pairs, demonstrations, bootstrap_prompts)]
    assert max(len(a & b) for a, b in itertools.combinations(prompts, 2)) < 10


def test_prompts_come_twice_only_after_all_have_come() -> None:
    counts = Counter(row["prompt"] for row in bootstrap_prompts(draw(prompts=371 * 24 + 5)))
    assert Counter(counts.values()) == {1: 371 * 24 - 5, 2: 5}


def test_the_default_world_is_the_one_of_the_documented_figures() -> None:
    """The first rows of seed 0, written down when the figures were measured."""
    rows = json.loads((Path(__file__).parent / "default_world.json").read_text())
    world = draw()
    for part, make in (("pairs", offline_pairs), ("demonstrations", demonstrations), ("prompts", bootstrap_prompts),
                       ("heldout", heldout_pairs)):  # fmt: skip
        found = make(world)
        assert [{key: row[key] for key in kept} for row, kept in zip(found, rows[part], strict=False)] == rows[part]
    assert dataclasses.asdict(world.config)["seed"] == 0
