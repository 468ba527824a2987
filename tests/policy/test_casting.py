"""Weights cast once for scoring: results are those of autocast over float32 weights, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional
from transformers import modeling_utils
from transformers.models.llama.modeling_llama import LlamaMLP

from seralign.config import PolicyConfig
from seralign.policy.abilities import abilities
from seralign.policy.heads import LANGUAGE_MODEL, REWARD, Head
from seralign.policy.identity import PolicySource
from seralign.policy.load import load_model, mixed_precision
from seralign.policy.packing import make_batch

Saved = Callable[[str], PolicySource]
CONFIG = PolicyConfig(model="any")
SEQUENCES = [*tiny.make_sequences(12, seed=1), ([5, 3], [7]), ([5, 3], [9, 4])]


def scored(model: nn.Module, head: Head = LANGUAGE_MODEL) -> torch.Tensor:
    with torch.no_grad(), mixed_precision("bfloat16", model):
        return head.values(model, **make_batch(SEQUENCES, abilities(model).longest))


def dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    return {name: weight.dtype for name, weight in model.named_parameters()}


@pytest.mark.parametrize("name", [*tiny.ARCHITECTURES, "falcon"])
def test_log_probabilities_are_those_of_autocast_over_float32_weights(name: str, saved: Saved) -> None:
    plain, cast = (load_model(saved(name), CONFIG, "float32", scores_in=way) for way in (None, "bfloat16"))
    assert set(dtypes(plain).values()) == {torch.float32}
    assert torch.equal(scored(cast), scored(plain))


def test_linear_layers_alone_are_cast(saved: Saved) -> None:
    found = dtypes(load_model(saved("llama"), CONFIG, "float32", scores_in="bfloat16"))
    linear = {name for name in found if "_proj" in name or "lm_head" in name}
    assert {name for name, dtype in found.items() if dtype == torch.bfloat16} == linear
    assert {name for name, dtype in found.items() if dtype == torch.float32} == found.keys() - linear
    assert any("norm" in name for name in found.keys() - linear)


def test_an_output_layer_that_is_the_embedding_stays(saved: Saved) -> None:
    """Autocast leaves the embedding in float32."""
    model: Any = load_model(saved("llama-tied"), CONFIG, "float32", scores_in="bfloat16")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.lm_head.weight.dtype == torch.float32
    assert model.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16


def test_the_score_of_a_reward_model_stays(tmp_path: Path) -> None:
    source = tiny.save_model(tmp_path, "llama")
    models: list[Any] = []
    for way in (None, "bfloat16"):
        torch.manual_seed(3)  # of the new score
        models.append(load_model(source, CONFIG, "float32", head=REWARD, scores_in=way))
    plain, cast = models
    assert cast.score.weight.dtype == torch.float32
    assert cast.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    assert torch.equal(scored(cast, REWARD), scored(plain, REWARD))


def test_an_adapter_is_cast_with_its_base(saved: Saved, tmp_path: Path) -> None:
    source = tiny.save_adapter(tmp_path, saved("llama"))
    plain, cast = (load_model(source, CONFIG, "float32", scores_in=way) for way in (None, "bfloat16"))
    assert torch.equal(scored(cast), scored(plain))
    assert {dtype for name, dtype in dtypes(cast).items() if "lora_" in name} == {torch.bfloat16}


@pytest.mark.parametrize("casts", [True, False])
def test_a_layer_that_computes_in_float32_keeps_its_weights(
    casts: bool, saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With cast weights, its results would be others; or it would fail, if it does not cast them back."""

    def exact(self: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            layers = (self.gate_proj, self.up_proj, self.down_proj)
            gate, up, down = (layer.weight.float() if casts else layer.weight for layer in layers)
            x = x.float()
            return functional.linear(self.act_fn(functional.linear(x, gate)) * functional.linear(x, up), down)

    monkeypatch.setattr(LlamaMLP, "forward", exact)
    plain, cast = (load_model(saved("llama"), CONFIG, "float32", scores_in=way) for way in (None, "bfloat16"))
    assert torch.equal(scored(cast), scored(plain))
    assert set(dtypes(cast).values()) == {torch.float32}


@pytest.mark.parametrize(("dtype", "scores_in"), [("float32", "float32"), ("bfloat16", "bfloat16")])
def test_nothing_is_cast_where_autocast_casts_nothing(dtype: str, scores_in: str, saved: Saved) -> None:
    model = load_model(saved("llama"), CONFIG, dtype, scores_in=scores_in)
    assert set(dtypes(model).values()) == {getattr(torch, dtype)}


def test_weights_to_be_cast_are_read_and_others_are_mapped(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a mapped file would stay in memory beside the cast weights."""
    backends = []
    library: Any = modeling_utils
    opened = library.safe_open

    def note(*args: Any, **options: Any) -> Any:
        backends.append(options.get("backend"))
        return opened(*args, **options)

    monkeypatch.setattr(library, "safe_open", note)
    for way in ("bfloat16", None):
        load_model(saved("llama"), CONFIG, "float32", scores_in=way)
    assert backends == ["pread", "mmap"]
    assert library.safe_open is note
