"""What a finished stage was made from is in its record: a change of anything that it read is refused by name."""

from __future__ import annotations

import linecache
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_run import small_config

from seralign.config import RunConfig, to_dict
from seralign.errors import StoreError
from seralign.pipeline import RunResult, train
from seralign.runs import Run, StageRecord
from seralign.runs.layout import MANIFEST
from seralign.runs.sealed import read_sealed, write_sealed

SHORT: dict[str, Any] = {
    "rounds": 2, "crossfit": {"folds": 2}, "evaluation__token_pairs": 6, "world__pairs": 120, "training__max_steps": 8,
    "data__max_prompt_length": 40,
}  # fmt: skip
OWN_OBJECTIVE = """
from dataclasses import dataclass

from seralign.objectives import IPO


@dataclass(frozen=True)
class Mine(IPO):
    pass
"""
LOOKS = ("initial/evaluate", "round-1/evaluate", "round-2/evaluate", "baseline/evaluate")
COPIES = ("crossfit/fold-1", "crossfit/fold-2")
TRAINED = (*COPIES, "round-1/train", "round-2/train", "baseline/train")
DECIDED = ("round-1/decide", "round-2/decide")
TOKENS = ("round-1/tokens", "round-2/tokens")
SCORED = ("crossfit/review", *LOOKS, *TOKENS, "round-2/score", "round-2/bootstrap")
FORWARD = ("sft", *TRAINED, *SCORED, "round-2/sample")
REVIEW = ("round-2/select", "round-2/bootstrap", "round-2/compose")
READ_TOKENIZER = ("data", "sft", *TRAINED, *LOOKS, *TOKENS, "round-2/sample", "result")

# A key of the configuration, another value, and every stage that reads it.
READERS: list[tuple[str, Any, set[str]]] = [
    ("data.max_length", 47, {"data"}),
    ("data.max_prompt_length", 39, {"data"}),
    ("data.overlong", "drop", {"data"}),
    ("data.format", "hh", {"data"}),
    ("data.as_chat", True, {"data"}),
    ("data.system", "Be brief.", {"data"}),
    ("data.roles", {"client": "user"}, {"data"}),
    ("data.chat_template_kwargs", {"thinking": False}, {"data"}),
    ("policy.dtype", "bfloat16", set(FORWARD)),
    ("policy.attention", "eager", set(FORWARD)),
    ("policy.trust_remote_code", True, set(FORWARD)),
    ("policy.lora", {"r": 2}, {"sft", *TRAINED}),
    ("policy.save_dtype", "bfloat16", {"result"}),
    ("sft.learning_rate", 1e-4, {"sft"}),
    ("training.learning_rate", 1e-4, set(TRAINED)),
    ("training.tokens_per_pack", 150, {*TRAINED, *LOOKS}),
    ("objective.beta", 0.2, {*TRAINED, *SCORED, "result"} - set(TOKENS)),
    ("objective.name", "ipo", {*TRAINED, *SCORED, "result"} - set(TOKENS)),
    ("crossfit.trust", 0.6, {"crossfit/review", "result"}),
    ("crossfit.keep", 0.5, {"crossfit/review", "result"}),
    ("scoring.dtype", "bfloat16", {*SCORED, "round-2/sample"}),
    ("scoring.tokens_per_pack", 500, set(SCORED)),
    ("scoring.ensemble_weight", 0.4, {"round-2/select", "round-2/bootstrap", "result"}),
    (
        "scoring.length_correction",
        "offline",
        {"crossfit/review", "round-2/select", "round-2/bootstrap", "result"},
    ),
    ("selection.fraction", 0.5, {"round-2/select", "round-2/compose", "result"}),
    ("bootstrap.prompts", 12, {"round-2/sample", "result"}),
    ("bootstrap.samples", 4, {"round-2/sample", "result"}),
    ("bootstrap.temperature", 0.9, {"round-2/sample", "result"}),
    ("bootstrap.labels", "queue", {"round-2/bootstrap", "result"}),
    ("bootstrap.agreement", "dataset", {"round-2/bootstrap", "result"}),
    ("bootstrap.selection.fraction", 0.5, {"round-2/bootstrap", "round-2/compose", "result"}),
    ("bootstrap.shares", [0.2], {"round-2/compose", "result"}),
    ("evaluation.prompts", 12, set(LOOKS)),
    ("evaluation.temperature", 0.9, set(LOOKS)),
    ("evaluation.token_pairs", 4, set(TOKENS)),
    ("stop.min_gain", 0.1, set(DECIDED)),
    ("seed", 1, {"sft", *TRAINED, "crossfit/review", *LOOKS, "round-2/sample", *REVIEW}),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return train(small_config(tmp_path_factory.mktemp("inputs") / "run", **SHORT))


def changed_config(finished: RunResult, key: str, value: Any) -> RunConfig:
    return small_config(finished.run.root, **SHORT | {key.replace(".", "__"): value})


def inputs_of(config: RunConfig, patch: pytest.MonkeyPatch, finished: RunResult, scorer: Any = None) -> dict[str, Any]:
    """What each stage would be made from under a configuration; every stage is taken from the finished run."""
    asked: dict[str, dict[str, str]] = {}

    def record(run: Run, name: str, inputs: dict[str, str]) -> StageRecord:
        asked[name] = inputs
        return run.record(name)

    patch.setattr("seralign.pipeline.run.open_run", lambda *_, **__: Run(finished.run.root))
    patch.setattr(Run, "verify", record)
    train(config, scorer)
    return asked


def changed_inputs(finished: RunResult, asked: dict[str, dict[str, str]]) -> dict[str, set[str]]:
    """Names of the inputs that are others than in the record, by stage."""
    found = {}
    for name, inputs in asked.items():
        own = finished.run.record(name).inputs
        found[name] = {key for key in own.keys() | inputs.keys() if own.get(key) != inputs.get(key)}
    return {name: keys for name, keys in found.items() if keys}


def test_the_same_configuration_changes_nothing(finished: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = inputs_of(small_config(finished.run.root, **SHORT), monkeypatch, finished)
    assert set(asked) == {record.name for record in finished.run.stages()}
    assert changed_inputs(finished, asked) == {}


@pytest.mark.parametrize(("key", "value", "readers"), READERS, ids=[key for key, *_ in READERS])
def test_a_setting_is_an_input_of_all_stages_that_read_it(
    finished: RunResult, key: str, value: Any, readers: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed_config(finished, key, value)
    with monkeypatch.context() as patch:
        asked = inputs_of(config, patch, finished)
    found = changed_inputs(finished, asked)
    assert set(found) == readers
    for stage, names in found.items():
        # The name is the key itself, or that of the section that is read whole.
        (name,) = names
        assert key == name or key.startswith(f"{name}.")
        with pytest.raises(StoreError, match=rf"{stage} was made from other inputs: {re.escape(name)} changed since"):
            finished.run.verify(stage, asked[stage])


def test_the_number_of_rounds_decides_and_is_on_the_card(finished: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = inputs_of(changed_config(finished, "rounds", 1), monkeypatch, finished)
    found = changed_inputs(finished, asked)
    assert found["round-1/decide"] == {"rounds"}
    assert "rounds" in found["result"]


def test_the_template_is_an_input_of_all_stages_that_read_the_tokenizer(
    finished: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed_config(finished, "policy.chat_template", "{{ messages[0].content }}")
    found = changed_inputs(finished, inputs_of(config, monkeypatch, finished))
    assert found == {stage: {"policy.tokenizer"} for stage in READ_TOKENIZER}


def test_the_scorer_is_an_input_of_the_evaluations(finished: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    def lengths(prompts: list[str], responses: list[str]) -> list[int]:
        return [len(response) for response in responses]

    config = small_config(finished.run.root, **SHORT)
    found = changed_inputs(finished, inputs_of(config, monkeypatch, finished, lengths))
    # The world scored before; the function is named as it was given, by the argument of train.
    assert found == {stage: {"world", "scorer"} for stage in LOOKS}


def test_the_judge_is_an_input_where_it_labels(finished: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    config = changed_config(finished, "bootstrap.labels", "judge")
    found = changed_inputs(finished, inputs_of(config, monkeypatch, finished))
    assert found == {"round-2/bootstrap": {"bootstrap.labels", "evaluation.judge"}, "result": {"bootstrap"}}


def test_the_form_of_what_is_made_is_an_input_where_it_is_made(
    finished: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No objective takes both forms, so that the objective changes too."""
    made = {"bootstrap__preferences": "ranking", "objective__name": "plackett_luce", "data__convert__pair": "ranking"}
    config = small_config(finished.run.root, **SHORT | made)
    found = changed_inputs(finished, inputs_of(config, monkeypatch, finished))
    assert {stage for stage, names in found.items() if "bootstrap.preferences" in names} == {"round-2/bootstrap"}


def test_the_source_of_ones_own_objective_is_an_input_of_all_stages_that_use_it(
    finished: RunResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A class that was changed under the same name makes another loss: a resumed run is refused."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    asked = []
    for version in ("", "# changed"):
        (tmp_path / "my_loss.py").write_text(OWN_OBJECTIVE + version)
        monkeypatch.delitem(sys.modules, "my_loss", raising=False)
        linecache.clearcache()
        config = changed_config(finished, "objective", {"name": "my_loss:Mine"})
        with monkeypatch.context() as patch:
            asked.append(inputs_of(config, patch, finished))
    first, second = asked
    changed = {stage: {key for key in first[stage] if first[stage][key] != second[stage][key]} for stage in first}
    readers = {*TRAINED, *SCORED, "result"} - set(TOKENS)
    assert {stage: names for stage, names in changed.items() if names} == {
        stage: {"source of my_loss:Mine"} for stage in readers
    }


def test_each_copy_has_pairs_of_its_own(finished: RunResult) -> None:
    digests = [finished.run.record(stage).inputs["pairs"] for stage in (*COPIES, "baseline/train")]
    assert len(set(digests)) == 3


def test_a_run_that_is_resumed_with_another_setting_is_refused_by_the_stage_that_read_it(
    finished: RunResult, tmp_path: Path
) -> None:
    """Also where the manifest, which is compared first, was changed along with it."""
    root = tmp_path / "run"
    shutil.copytree(finished.run.root, root)
    config = replace(small_config(finished.run.root, **SHORT | {"scoring__ensemble_weight": 0.4}), out=str(root))
    manifest = read_sealed(root / MANIFEST)
    given = {key: value for key, value in to_dict(config).items() if key != "out"}
    write_sealed(root / MANIFEST, manifest | {"config": given})
    with pytest.raises(
        StoreError, match=r"round-2/select was made from other inputs: scoring\.ensemble_weight changed since"
    ):
        train(config)
