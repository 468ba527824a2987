"""Generated pairs that the run's judge labels, trained on by regression: iREPO's loop."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest
from small_run import small_config
from tiny import as_pairs

from seralign.data.table import read_table as read_examples
from seralign.errors import ConfigError
from seralign.pipeline import train
from seralign.runs.files import read_table

LOOP: dict[str, Any] = {
    "rounds": 2, "sft": None, "world": {"pairs": 24, "prompts": 12, "heldout": 4}, "objective": {"name": "irepo"},
    "evaluation": {"prompts": 0, "token_pairs": 0},
    "bootstrap": {"samples": 3, "max_new_tokens": 24, "batch_size": 8, "labels": "judge", "selection": {"rule": "all"},
                  "temperature": 1.0, "shares": [0.9]},
}  # fmt: skip


class Brief:
    """Prefers the shorter response with probability 0.8; says nothing of equally long ones."""

    identity = "brief, 1"

    def __init__(self, options: object, key: str, scorer: object) -> None:
        pass

    def judge(self, comparisons: Any) -> Any:
        from seralign.evaluation.judges import Verdict

        for each in comparisons:
            longer = len(each.first.split()) - len(each.second.split())
            yield each, Verdict(None if longer == 0 else 0.8 if longer < 0 else 0.2)


def test_the_judge_gives_the_label_and_the_side(tmp_path: Path) -> None:
    values = LOOP | {"evaluation": LOOP["evaluation"] | {"judge": "pipeline.test_judged_rounds:Brief"}}
    run = train(small_config(tmp_path / "run", **values)).run
    made = list(as_pairs(read_examples(run.path("round-2/bootstrap", "generated.arrow"))))
    assert len(made) > 0
    selection = read_table(run.path("round-2/bootstrap", "selection.parquet")).to_pylist()
    rewards = read_table(run.path("round-2/bootstrap", "rewards.parquet"))["reward"].to_pylist()
    sampled = read_table(run.path("round-2/sample", "candidates.parquet")).to_pylist()
    reward = {(row["prompt_id"], row["text"]): own for row, own in zip(sampled, rewards, strict=True)}
    for row, choice in zip(made, selection, strict=True):
        assert row["p"] == 0.8
        assert len(row["chosen"].split()) < len(row["rejected"].split())
        both = [reward[row["prompt_id"], row[side]] for side in ("chosen", "rejected")]
        assert choice["margin"] == pytest.approx(both[0] - both[1])
    figures = run.record("round-2/bootstrap").figures
    assert figures["kept"] == len(made)
    assert run.record("round-2/bootstrap").inputs["evaluation.judge"].endswith("brief, 1")
    # The pairs of the reward alone have the reward's side; the judge has turned some.
    assert any(choice["margin"] < 0 for choice in selection)


class Counted(Brief):
    """As ``Brief``; keeps the first responses of the comparisons that it is asked for."""

    asked: ClassVar[list[str]] = []

    def judge(self, comparisons: Any) -> Any:
        for comparison, verdict in super().judge(comparisons):
            self.asked.append(comparison.first)
            yield comparison, verdict


@pytest.mark.real
def test_runs_that_share_a_store_ask_once(tmp_path: Path) -> None:
    """The second run differs in a key that comes after the labels, and is resumed with a store of its own."""
    judged = LOOP["evaluation"] | {"judge": "pipeline.test_judged_rounds:Counted"}
    shared = LOOP | {"evaluation": judged | {"store": str(tmp_path / "verdicts.sqlite")}}
    # Runs import the judge by name, which is another module than pytest's.
    asked = import_module("pipeline.test_judged_rounds").Counted.asked
    asked.clear()
    first = train(small_config(tmp_path / "first", **shared)).run
    assert len(asked) > 0
    asked.clear()
    second = train(small_config(tmp_path / "second", **shared | {"bootstrap__shares": [0.5]})).run
    assert asked == []
    digests = {run.record("round-2/bootstrap").digest for run in (first, second)}
    assert len(digests) == 1
    train(small_config(tmp_path / "second", **LOOP | {"evaluation": judged, "bootstrap__shares": [0.5]}))
    train(small_config(tmp_path / "third", **LOOP | {"evaluation": judged}))
    assert len(asked) > 0


class Faltering(Brief):
    """As ``Brief``; its first request fails, in a process that has not seen one fail."""

    fails: ClassVar[list[bool]] = [True]

    def judge(self, comparisons: Any) -> Any:
        from seralign.evaluation.judges import Verdict

        for each, verdict in super().judge(comparisons):
            yield each, Verdict(None, error="no answer") if self.fails and self.fails.pop() else verdict


def test_a_pair_whose_request_failed_is_not_lost(tmp_path: Path) -> None:
    values = LOOP | {"evaluation": LOOP["evaluation"] | {"judge": "pipeline.test_judged_rounds:Faltering"}}
    Faltering.fails[:] = [True]
    with pytest.raises(ConfigError, match=r"^bootstrap\.labels: the judge failed on 1 of \d+ pairs \(no answer\); its"):
        train(small_config(tmp_path / "run", **values))
    resumed = train(small_config(tmp_path / "run", **values)).run
    whole = train(small_config(tmp_path / "whole", **values)).run
    made = [list(as_pairs(read_examples(run.path("round-2/bootstrap", "generated.arrow")))) for run in (resumed, whole)]
    assert made[0] == made[1]
    assert made[0]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"objective": {"name": "aot"}}, r"bootstrap\.labels: the verdicts of a judge are soft labels, and aot has no"),
        ({"bootstrap__preferences": "ranking"}, r"bootstrap\.labels: judge compares two responses; set preferences: "),
    ],
)
def test_labels_that_cannot_be_used_are_refused(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        small_config(tmp_path / "run", **LOOP | more)
