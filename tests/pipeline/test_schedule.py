"""The stages of a run by hand, and that they are data: equal configurations give equal stages."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from seralign.config import RunConfig, load_config
from seralign.pipeline.composing import ComposedPairs
from seralign.pipeline.evaluating import Evaluation
from seralign.pipeline.lineage import rounds
from seralign.pipeline.rows import AllPairs, Demonstrations, FirstPairs
from seralign.pipeline.schedule import schedule
from seralign.pipeline.training import Training
from seralign.runs.layout import place

NO_WORLD: dict[str, Any] = {"world": None, "policy.model": "model", "data.pairs": {"path": "pairs.jsonl"}}

# Each of them adds stages or takes some away.
CHOICES: dict[str, dict[str, Any]] = {
    "sft": {"sft": {}},
    "crossfit": {"crossfit": {"folds": 12}},
    "many rounds": {"rounds": 11},
    "no bootstrap": {"bootstrap": None},
    "baseline": {"evaluation.baseline": True},
    "no tokens": {"evaluation.token_pairs": 0},
    "no world": NO_WORLD,
    "merged adapter": {"policy.model": "model", "policy.adapter": "adapter", "policy.lora": {}},
}


def config(**given: Any) -> RunConfig:
    values = {key.replace("__", "."): value for key, value in given.items()}
    return load_config(None, {"out": "run", "world": {}, "rounds": 2, "sft": None} | values)


def names(given: RunConfig) -> list[str]:
    return [stage.name for stage in schedule(given)]


def test_the_stages_of_a_run_by_hand() -> None:
    given = config(sft={}, crossfit={"folds": 2}, evaluation__baseline=True)
    assert names(given) == [
        "world", "data", "precision", "sft", "policies",
        "initial/evaluate", "crossfit/fold-1", "crossfit/fold-2", "crossfit/review",
        "round-1/train", "round-1/evaluate", "round-1/tokens", "round-1/decide",
        "round-2/score", "round-2/select", "round-2/sample", "round-2/bootstrap", "round-2/compose",
        "round-2/train", "round-2/evaluate", "round-2/tokens", "round-2/decide",
        "baseline/train", "baseline/evaluate", "result",
    ]  # fmt: skip


def test_what_is_not_asked_for_has_no_stage() -> None:
    assert names(config(bootstrap=None, evaluation__token_pairs=0, **NO_WORLD)) == [
        "data", "precision", "policies", "initial/evaluate", "round-1/train", "round-1/evaluate", "round-1/decide",
        "round-2/score", "round-2/select", "round-2/compose", "round-2/train", "round-2/evaluate", "round-2/decide",
        "result",
    ]  # fmt: skip


def test_stages_are_in_the_order_by_which_tables_and_reports_sort_them() -> None:
    """The order is that of ``seralign.runs.layout`` for every choice, also with two digits; no name comes twice."""
    for some in combinations(CHOICES.values(), 2):
        values: dict[str, Any] = {"rounds": 2}
        for choice in some:
            values |= choice
        found = names(config(**values))
        assert found == sorted(found, key=place)
        assert len(set(found)) == len(found)
        assert found[-1] == "result"


def test_what_each_training_starts_from_reads_and_trains_on() -> None:
    """``reference.update: each_round`` and ``policy.start: previous`` move reference and start along."""
    given = config(rounds=3, sft={}, reference__update="each_round", evaluation__baseline=True)
    _, second, third = rounds(given)
    trainings = ("round-1/train", "round-2/train", "round-3/train")
    assert [stage for stage in schedule(given) if isinstance(stage, Training)] == [
        Training("sft", "base", Demonstrations(), section="sft"),
        Training("round-1/train", "initial", FirstPairs(), "reference"),
        Training("round-2/train", "round-1", ComposedPairs(second), "round-1"),
        Training("round-3/train", "round-2", ComposedPairs(third), "round-2"),
        Training("baseline/train", "initial", AllPairs(), "reference", as_long_as=trainings),
    ]


def test_whom_each_policy_is_compared_with() -> None:
    given = config(rounds=3, evaluation__baseline=True)
    assert [(stage.role, stage.rivals) for stage in schedule(given) if isinstance(stage, Evaluation)] == [
        ("initial", ()),
        ("round-1", ("initial",)),
        ("round-2", ("initial", "round-1")),
        ("round-3", ("initial", "round-1", "round-2")),
        ("baseline", ("initial",)),
    ]


def test_equal_configurations_give_equal_stages() -> None:
    assert schedule(config(rounds=4)) == schedule(config(rounds=4))
    assert schedule(config(rounds=4)) != schedule(config(rounds=4, reference__update="each_round"))
