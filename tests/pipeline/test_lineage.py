"""Which policies each round uses, by hand, for every choice of the configuration."""

from __future__ import annotations

from typing import Any

import pytest

from seralign.config import RunConfig, load_config
from seralign.pipeline.lineage import Round, role_before, rounds


def config(**given: Any) -> RunConfig:
    values = {key.replace("__", "."): value for key, value in given.items()}
    return load_config(None, {"out": "run", "world": {}, "rounds": 4} | values)


def of(found: tuple[Round, ...], name: str) -> list[Any]:
    return [getattr(each, name) for each in found]


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("initial", ["initial", "initial", "initial", "initial"]),
        ("previous", ["initial", "round-1", "round-2", "round-3"]),
    ],
)
@pytest.mark.parametrize("update", ["never", "each_round"])
def test_what_a_round_starts_from(start: str, update: str, expected: list[str]) -> None:
    found = rounds(config(policy__start=start, reference__update=update))
    assert of(found, "index") == [1, 2, 3, 4]
    assert of(found, "start") == expected
    assert of(found, "policy") == ["round-1", "round-2", "round-3", "round-4"]


@pytest.mark.parametrize("start", ["initial", "previous"])
def test_one_reference_for_all_rounds(start: str) -> None:
    found = rounds(config(policy__start=start, reference__update="never"))
    assert of(found, "reference") == ["reference"] * 4
    assert [[(one.policy, one.reference) for one in each.reward_policies] for each in found] == [
        [],
        [("round-1", "reference")],
        [("round-2", "reference"), ("round-1", "reference")],
        [("round-3", "reference"), ("round-2", "reference")],
    ]


@pytest.mark.parametrize("start", ["initial", "previous"])
def test_the_previous_policy_as_the_reference(start: str) -> None:
    """A policy's reward is measured against the reference that it was itself trained against."""
    found = rounds(config(policy__start=start, reference__update="each_round"))
    assert of(found, "reference") == ["reference", "round-1", "round-2", "round-3"]
    assert [[(one.policy, one.reference) for one in each.reward_policies] for each in found] == [
        [],
        [("round-1", "reference")],
        [("round-2", "round-1"), ("round-1", "reference")],
        [("round-3", "round-2"), ("round-2", "round-1")],
    ]


@pytest.mark.parametrize(
    ("sample_from", "expected"),
    [
        ("initial", [None, "initial", "initial", "initial"]),
        ("policy", [None, "round-1", "round-2", "round-3"]),
        ("previous", [None, "initial", "round-1", "round-2"]),
    ],
)
def test_who_answers_the_prompts(sample_from: str, expected: list[str | None]) -> None:
    assert of(rounds(config(bootstrap__sample_from=sample_from)), "sample_from") == expected


def test_without_bootstrap_nobody_answers_but_pairs_are_reviewed() -> None:
    found = rounds(config(bootstrap=None))
    assert of(found, "sample_from") == [None] * 4
    assert of(found, "is_reviewed") == [False, True, True, True]


@pytest.mark.parametrize(
    ("role", "before"),
    [
        ("base", None), ("initial", "base"), ("round-1", "initial"), ("round-3", "round-2"),
        ("round-3/average", "round-1"), ("round-4/average", "round-3/average"), ("baseline", "initial"),
    ],
)  # fmt: skip
def test_which_policy_comes_before(role: str, before: str | None) -> None:
    assert role_before(role) == before


def test_one_round() -> None:
    assert rounds(config(rounds=1)) == (Round(1, "initial", "reference"),)
