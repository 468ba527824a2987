"""A model's files and its config.json have to speak of the same weights; none is made up, none left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from seralign.config import PolicyConfig
from seralign.errors import ModelError
from seralign.policy.identity import PolicySource
from seralign.policy.load import load_model

Saved = Callable[[str], PolicySource]
CONFIG = PolicyConfig(model="any")


def changed(
    source: PolicySource, folder: Path, weights: dict[str, torch.Tensor | None] | None = None, **settings: Any
) -> PolicySource:
    """A copy with other settings, and with other weights; None takes one away."""
    shutil.copytree(source.model, folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    if weights:
        tensors = load_file(folder / "model.safetensors") | weights
        kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return PolicySource(str(folder))


def refusal(source: PolicySource) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(source, CONFIG, "float32")
    start, _, rest = str(caught.value).partition(": ")
    assert start == source.model
    assert "\n" not in rest
    return rest


@pytest.mark.parametrize(
    ("name", "key", "first", "count"),
    [
        ("llama", "num_hidden_layers", "model.layers.1.input_layernorm.weight", 9),
        ("gpt2", "n_layer", "transformer.h.1.attn.c_attn.weight", 11),
        ("phi3", "num_hidden_layers", "model.layers.1.input_layernorm.weight", 6),
    ],
)
def test_fewer_layers_than_the_files_have_is_refused(
    name: str, key: str, first: str, count: int, tmp_path: Path
) -> None:
    said = refusal(changed(tiny.save_model(tmp_path / "whole", name), tmp_path / "model", **{key: 1}))
    assert said.startswith(f"the files hold {count} weights that config.json does not describe ({first}, ")
    assert said.endswith(f" ...): config.json says {key} 1, and the files have 2 layers")


@pytest.mark.parametrize(("name", "key"), [("llama", "num_hidden_layers"), ("gpt2", "n_layer")])
def test_more_layers_than_the_files_have_is_refused(name: str, key: str, saved: Saved, tmp_path: Path) -> None:
    said = refusal(changed(saved(name), tmp_path / "model", **{key: 4}))
    assert " weights are missing in the files (" in said
    assert said.endswith(f" ...): config.json says {key} 4, and the files have 2 layers")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"intermediate_size": 40},
            "6 weights do not have the shape that config.json gives: model.layers.0.mlp.down_proj.weight is 32x48 in "
            "the files and 32x40 by config.json (see intermediate_size 40)",
        ),
        (
            {"vocab_size": 50},
            "2 weights do not have the shape that config.json gives: lm_head.weight is 48x32 in the files and 50x32 by "
            "config.json (see vocab_size 50)",
        ),
    ],
)
def test_weights_of_another_shape_are_named_with_both_shapes(
    settings: dict[str, Any], says: str, saved: Saved, tmp_path: Path
) -> None:
    assert refusal(changed(saved("llama"), tmp_path / "model", **settings)) == says


def test_missing_weights_are_named(saved: Saved, tmp_path: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    assert refusal(changed(saved("llama"), tmp_path / "a", {name: None})) == (
        f"1 weights are missing in the files ({name})"
    )
    said = refusal(changed(saved("llama"), tmp_path / "b", attention_bias=True))
    assert said.startswith("8 weights are missing in the files (model.layers.0.self_attn.k_proj.bias, ")
    assert said.endswith(" ...)")


def test_weights_of_another_kind_of_model_are_named(saved: Saved, tmp_path: Path) -> None:
    extra: dict[str, torch.Tensor | None] = {"model.layers.0.self_attn.q_norm.weight": torch.ones(8)}
    assert refusal(changed(saved("llama"), tmp_path / "model", extra)) == (
        "the files hold 1 weights that config.json does not describe "
        "(model.layers.0.self_attn.q_norm.weight); give the config.json that belongs to these weights"
    )


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("llama", "model.rotary_emb.inv_freq"),
        ("gpt2", "transformer.h.0.attn.bias"),
        ("gpt2", "transformer.h.1.attn.masked_bias"),
        ("llama-tied", "lm_head.weight"),
    ],
)
def test_what_old_versions_saved_beside_the_weights_is_taken(
    name: str, tensor: str, saved: Saved, tmp_path: Path
) -> None:
    source = saved(name)
    value = load_file(Path(source.model) / "model.safetensors").get("model.embed_tokens.weight", torch.ones(4))
    found = load_model(changed(source, tmp_path / "model", {tensor: value.clone()}), CONFIG, "float32")
    own = load_model(source, CONFIG, "float32").state_dict()
    assert all(torch.equal(value, own[key]) for key, value in found.state_dict().items())
