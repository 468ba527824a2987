"""Memory of each of several processes that divide a model, by hand.

The model has 10 layers of 4 x 8 x 8 + 3 x 8 x 16 + 2 x 8 = 656 weights, an embedding and an output layer of 32 x 8
each, and a norm of 8: 7,080 weights, 28,320 bytes in float32.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_run import small_config
from transformers import LlamaConfig

from seralign.config import PolicyConfig, RunConfig
from seralign.pipeline.forecast.work import Passes, StageWork, Steps
from seralign.pipeline.plan import shares as planned
from seralign.pipeline.plan.costs import Costs, Line, StepCosts
from seralign.pipeline.plan.estimate import Measured
from seralign.pipeline.plan.shares import shares

WHOLE, IDLE = 28_320, 700
# Gathered layers: 2 x 4 bytes x the 656 weights of a layer.
GATHERED = 5_248


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    settings = LlamaConfig(
        vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=10, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=False, architectures=["LlamaForCausalLM"], dtype=torch.float32,
    )  # fmt: skip
    settings.save_pretrained(tmp_path)
    config = small_config(tmp_path / "run", scoring__dtype="float32", training__precision="float32")
    return divided(replace(config, sft=None, policy=PolicyConfig(model=str(tmp_path))), "fsdp")


def divided(run: RunConfig, shard: Any) -> RunConfig:
    return replace(run, training=replace(run.training, shard=shard))


def stored_in(run: RunConfig, dtype: str) -> None:
    settings = LlamaConfig.from_pretrained(str(run.policy.model))
    settings.dtype = getattr(torch, dtype)
    settings.save_pretrained(str(run.policy.model))


def peaks(run: RunConfig, *, trains: bool = False) -> list[int]:
    """Of 2, 4 and 8 processes, where one takes 40,000 bytes in a pass of 8 tokens, or 120,000 in steps."""
    costs = Costs(Line(1.0, 1.0), Line(40_000.0 - 8 * 4, 4.0), 8)
    steps = StepCosts(Costs(Line(1.0, 1.0), Line(120_000.0, 0.0), 8), 1.0, 1.0, 0, 0, 0)
    measured = Measured({"scoring": costs, "training": costs}, {"training": steps}, None, 1.0, IDLE)
    passes = (Passes("scoring", 2, np.array([8]), 8),)
    stage = StageWork("x", 2, "responses", passes=passes)
    if trains:
        stage = StageWork("x", 1, "steps", Steps("training", 1, 1, np.array([8]), 8, 0, 0))
    return [share.peak_bytes for share in shares(run, [stage], measured)]


def test_a_process_loads_the_whole_model_before_it_scores_with_a_part(run: RunConfig) -> None:
    """Two save 28,320 / 2 - 5,248 of 40,000 bytes; four would need 40,000 - 15,992 = 24,008, less than for loading."""
    two = 40_000 - (WHOLE // 2 - GATHERED)
    assert peaks(run) == [two, IDLE + WHOLE, IDLE + WHOLE] == [31_088, 29_020, 29_020]


def test_the_file_of_another_data_type_is_in_memory_beside_the_weights(run: RunConfig) -> None:
    """2 x 7,080 bytes of bfloat16 beside 28,320 of float32."""
    stored_in(run, "bfloat16")
    assert peaks(run) == [IDLE + WHOLE + WHOLE // 2] * 3 == [43_180] * 3


def test_loading_on_a_gpu_moves_a_layer_at_a_time(run: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned, "PartialState", lambda: SimpleNamespace(device=torch.device("cuda")))
    saved = [WHOLE - WHOLE // count - GATHERED for count in (2, 4, 8)]
    assert peaks(run) == [40_000 - each for each in saved] == [31_088, 24_008, 20_468]


@pytest.mark.parametrize("shard", ["fsdp", "zero3"])
def test_a_training_loads_the_whole_model_too(run: RunConfig, shard: str) -> None:
    """Of 113,280 bytes of weights, gradients and moments each of g processes keeps a g-th, and gathers 12 x 656 more.

    Eight would need 120,000 - 91,248 = 28,752, less than for loading.
    """
    assert peaks(divided(run, shard), trains=True) == [71_232, 42_912, IDLE + WHOLE]


def test_zero2_keeps_the_whole_model(run: RunConfig) -> None:
    """Divided are the 84,960 bytes of gradients and moments; 28,320 are for reducing gradients."""
    saved = [84_960 * (count - 1) // count - WHOLE for count in (2, 4, 8)]
    assert peaks(divided(run, "zero2"), trains=True) == [120_000 - each for each in saved]


def test_zero3_does_not_divide_scoring(run: RunConfig) -> None:
    assert peaks(divided(run, "zero3")) == [40_000] * 3
