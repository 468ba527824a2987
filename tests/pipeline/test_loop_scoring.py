"""Candidates joined with their prompts, and what a policy is scored and sampled with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tiny
import torch

from seralign.config import DataConfig, PolicyConfig, RunConfig, ScoringConfig, SourceConfig, TrainingConfig
from seralign.errors import StoreError
from seralign.laboratory.model import build_tokenizer
from seralign.objectives import DPO, one
from seralign.pipeline import context
from seralign.pipeline.context import Loop, Policy, run_results
from seralign.pipeline.scoring import pair_scores, stored_with_prompts, with_prompts
from seralign.policy.heads import Head
from seralign.policy.identity import PolicySource
from seralign.records import Label
from seralign.runs import Run
from seralign.runs.files import write_table


def test_candidates_are_joined_with_their_prompts_by_id() -> None:
    prompts = tiny.plain_prompts(list("abcd"), list("ABCD"), [[1], [2, 2], [3, 3, 3], [4]]).select([3, 1, 2])
    candidates = pa.table({"prompt_id": ["b", "b", "d", "c", "d"], "index": [0, 1, 0, 0, 1], "ids": [[7]] * 5})
    joined = with_prompts(candidates, prompts)
    assert joined["prompt_ids"][:] == [[2, 2], [2, 2], [4], [3, 3, 3], [4]]
    assert joined["response_ids"][:] == [[[7]]] * 5
    assert joined["prompt"][:] == ["B", "B", "D", "C", "D"]
    assert joined["index"][:] == [0, 1, 0, 0, 1]


def test_stored_candidates_are_joined_with_prompts_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at a time. A prompt without candidates is passed over; the same prompt may be there twice."""
    monkeypatch.setattr("seralign.pipeline.scoring._JOINED", 2)
    prompts = tiny.plain_prompts(list("abcdb"), list("ABCDB"), [[1], [2, 2], [3, 3, 3], [4], [2, 2]])
    rows = {"prompt_id": list("aabddb"), "index": [0, 1, 0, 0, 1, 0], "ids": [[7], [8], [9], [10], [11], [12]]}
    file = tmp_path / "candidates.parquet"
    write_table(file, rows)
    joined = stored_with_prompts(file, prompts, tmp_path / "joined.arrow")
    assert joined["prompt_ids"][:] == [[1], [1], [2, 2], [4], [4], [2, 2]]
    assert joined["prompt"][:] == list("AABDDB")
    assert joined["response_ids"][:] == [[[7]], [[8]], [[9]], [[10]], [[11]], [[12]]]
    assert joined["messages"][:] == [None] * 6
    with pytest.raises(StoreError, match="holds answers to other prompts"):
        stored_with_prompts(file, prompts.select([0, 1, 2]), tmp_path / "other.arrow")


def a_loop(packed_length: int = 0, dtype: Any = "float16", **policy: Any) -> Loop:
    config = RunConfig(
        policy=PolicyConfig(model="model", **policy),
        data=DataConfig(pairs=SourceConfig("never-read.jsonl")),
        scoring=ScoringConfig(dtype=dtype),
        training=TrainingConfig(precision="bfloat16"),
        out="never-written",
    )
    run = Run(Path("never-written"))
    objective = one("dpo", DPO(0.1))
    tokenizer, results = build_tokenizer(), run_results(run)
    return Loop(config, run, tokenizer, frozenset({2}), objective, packed_length, None, results, results, None, None)


def test_examples_without_an_order_are_refused_before_they_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seralign.pipeline.scoring.implicit_scores", lambda *_: pytest.fail("a model was asked"))
    policy = Policy("policy", PolicySource("model"), "digest")
    with pytest.raises(ValueError, match="only pairs, rankings and scores order responses, got label"):
        pair_scores(a_loop(), policy, policy, tiny.examples_table([([1], [[2]])], [Label(True)]))


@pytest.mark.parametrize(
    ("dtype", "weights"),
    [
        ("float32", ["float32", "float32", "float32"]),
        ("bfloat16", ["float32", "float32", "bfloat16"]),
        ("float16", ["float32", "float32", "float32"]),
    ],
)
def test_scoring_training_and_sampling_have_their_own_precision(
    dtype: str, weights: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    computed: list[str | None] = []

    def load_model(
        source: PolicySource,
        config: PolicyConfig,
        dtype: str,
        *,
        head: Head,
        divided: str | None = None,
        scores_in: str | None = None,
    ) -> torch.nn.Module:
        assert divided is None, "the models of a run that divides nothing are whole"
        loaded.append(dtype)
        computed.append(scores_in)
        return torch.nn.Identity()

    monkeypatch.setattr(context, "load_model", load_model)
    loop, policy = a_loop(dtype=dtype), Policy("policy", PolicySource("model"), "digest")
    scoring, training = loop.scoring_policy(policy), loop.training_policy(policy)
    for load in (scoring.load, training.load, loop.sampled_policy(policy).load):
        load()
    assert loaded == weights
    assert computed == [dtype, "bfloat16", None], "to sample, no weight is cast"
    assert (scoring.weights, scoring.precision) == (weights[0], dtype)
    assert (training.weights, training.precision) == ("float32", "bfloat16")


def test_training_and_scoring_in_the_same_precision_share_what_they_compute() -> None:
    loop, policy = a_loop(dtype="bfloat16"), Policy("policy", PolicySource("model"), "digest")
    assert loop.scoring_policy(policy).key == loop.training_policy(policy).key


def test_the_attention_of_the_configuration_is_part_of_the_key() -> None:
    policy = Policy("policy", PolicySource("model"), "digest")
    loops = [a_loop(), a_loop(packed_length=99), a_loop(attention="eager"), a_loop(attention="sdpa")]
    keys = {make(policy).key for loop in loops for make in (loop.scoring_policy, loop.training_policy)}
    assert len(keys) == 8
