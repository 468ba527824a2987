"""What differs on a GPU: packed attention by FlexAttention, its precision, memory, and a whole run.

``make test-gpu`` runs them. No GPU has run them yet.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from pipeline.small_run import small_config
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from seralign.pipeline import train
from seralign.pipeline.plan import costs
from seralign.pipeline.precision import rates
from seralign.policy.abilities import abilities
from seralign.policy.identity import PolicySource
from seralign.policy.logprobs import response_logps
from seralign.policy.packing import Sequence, make_batch, pad_sequences
from seralign.runs.figures import PrecisionFigures
from seralign.runs.layout import PRECISION

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU"),
    # Which warnings compilers and drivers give is theirs to say; they are shown.
    pytest.mark.filterwarnings("default"),
]

# FlexAttention's kernels take heads of at least 16 channels; narrower ones are padded, not packed.
SHAPE: dict[str, Any] = {"hidden_size": 64, "max_position_embeddings": 1024, "attention_dropout": 0.0}


def sequences(seed: int = 0) -> list[Sequence]:
    """Three prompts with one, two and four responses, over several blocks of 128 tokens."""
    random = np.random.default_rng(seed)

    def ids(length: int) -> list[int]:
        return random.integers(0, len(tiny.VOCABULARY), length).tolist()

    prompts = [ids(200), ids(7), ids(130)]
    return [(prompts[which], ids(int(random.integers(1, 150)))) for which in (0, 1, 1, 2, 2, 2, 2)]


def on_gpu(model: nn.Module) -> nn.Module:
    moved = model.to("cuda")
    assert abilities(moved).longest >= 1000, "the rows are padded, so FlexAttention is not tested"
    return moved


def found(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    device = next(model.parameters()).device
    return response_logps(model, **{name: value.to(device) for name, value in batch.items()})


def gradients(model: nn.Module, logps: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (logps * torch.linspace(-1.0, 1.0, len(logps), dtype=logps.dtype, device=logps.device)).sum().backward()
    named = model.named_parameters()
    return {name: parameter.grad.cpu().clone() for name, parameter in named if parameter.grad is not None}


def test_packed_rows_in_float32_are_those_of_the_processor() -> None:
    """Values and gradients; the processor computes padded rows, which share no code of attention with packed ones."""
    given = sequences()
    plain = tiny.make_model("llama", **SHAPE)
    wanted = found(plain, pad_sequences(given))
    wanted_gradients = gradients(plain, wanted)
    model = on_gpu(tiny.make_model("llama", **SHAPE))
    values = found(model, make_batch(given, abilities(model).longest))
    torch.testing.assert_close(values.detach().cpu(), wanted.detach(), rtol=1e-4, atol=1e-4)
    own = gradients(model, values)
    assert own.keys() == wanted_gradients.keys()
    for name, gradient in wanted_gradients.items():
        torch.testing.assert_close(own[name], gradient, rtol=0, atol=1e-3 * float(gradient.abs().max()), msg=name)


def test_packed_rows_in_bfloat16_are_as_near_to_float32_as_padded_ones() -> None:
    given = [each for seed in range(6) for each in sequences(seed)]
    with torch.no_grad():
        wanted = found(tiny.make_model("llama", **SHAPE), pad_sequences(given))
        model = on_gpu(tiny.make_model("llama", **SHAPE))
        with torch.autocast("cuda", dtype=torch.bfloat16):
            packed = found(model, make_batch(given, abilities(model).longest)).cpu()
            padded = found(model, pad_sequences(given)).cpu()
    error, plain_error = (float((each - wanted).pow(2).mean().sqrt()) for each in (packed, padded))
    assert plain_error > 1e-3, "bfloat16 was not used"
    assert error < 2 * plain_error


def test_no_probe_of_the_processor_decides_the_precision() -> None:
    assert rates(small_config(Path("unused")), PolicySource("unused")) is None


def test_memory_is_that_of_the_gpu() -> None:
    free, used = costs.memory_at_hand(), costs.memory_used()
    costs.forget_peak()
    block = torch.empty(64 * 2**20, dtype=torch.uint8, device="cuda")
    assert costs.memory_used() - used == block.numel()
    del block
    assert costs.memory_used() == used
    assert costs.peak() - used >= 64 * 2**20
    assert 2**30 < free <= torch.cuda.get_device_properties(0).total_memory


def test_a_sera_run_from_end_to_end(tmp_path: Path) -> None:
    """One round on the built-in world, in the precision that ``auto`` takes; the policy of each training is new."""
    auto = {"training__precision": "auto", "sft__precision": "auto", "scoring__dtype": "auto"}
    torch.cuda.reset_peak_memory_stats()
    result = train(small_config(tmp_path / "run", rounds=1, **auto))
    assert torch.cuda.max_memory_allocated() > 2**20
    fast = "bfloat16" if torch.cuda.is_bf16_supported(False) else "float32"
    assert result.run.figures(PRECISION, PrecisionFigures).precision == fast
    lines = result.run.path("round-1/train", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    supervised, last = (
        AutoModelForCausalLM.from_pretrained(folder) for folder in (result.run.path("sft", "policy"), result.policy)
    )
    pairs = list(zip(supervised.parameters(), last.parameters(), strict=True))
    assert all(bool(torch.isfinite(after).all()) for _, after in pairs)
    assert not all(torch.equal(before, after) for before, after in pairs)
