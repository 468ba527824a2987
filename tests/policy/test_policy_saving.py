"""Saved weights are rounded to a data type once, and opened as such."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from seralign.errors import ModelError
from seralign.policy.identity import PolicySource, weights_digest
from seralign.policy.quiet import quiet_transformers
from seralign.policy.saving import cast_saved, kept_change, saved_dtype

Saved = Callable[[str], PolicySource]


@pytest.mark.parametrize("shard", ["5GB", "10KB"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_rounded_to_the_data_type(dtype: str, shard: str, saved: Saved, tmp_path: Path) -> None:
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(saved("llama").model, dtype=torch.float32)
        model.save_pretrained(tmp_path / "model", max_shard_size=shard)
        wanted = getattr(torch, dtype)
        model.to(wanted).save_pretrained(tmp_path / "theirs", max_shard_size=shard)
        source = PolicySource(str(tmp_path / "model"))
        modes = {file.name: file.stat().st_mode for file in (tmp_path / "model").iterdir()}
        cast_saved(tmp_path / "model", dtype)
        assert weights_digest(source) == weights_digest(PolicySource(str(tmp_path / "theirs")))
        assert saved_dtype(source) == dtype
        assert {file.name: file.stat().st_mode for file in (tmp_path / "model").iterdir()} == modes
        assert AutoModelForCausalLM.from_pretrained(source.model).dtype == wanted


def test_a_weight_that_the_data_type_cannot_hold_changes_nothing(saved: Saved, tmp_path: Path) -> None:
    shutil.copytree(saved("llama").model, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"][0, 0] = 1e5
    save_file(tensors, file, {"format": "pt"})
    before = file.read_bytes()
    with pytest.raises(ModelError, match=r"lm_head\.weight has weights beyond 65504"):
        cast_saved(tmp_path / "model", "float16")
    assert file.read_bytes() == before


def test_the_settings_name_the_data_type_and_else_most_weights_do(saved: Saved, tmp_path: Path) -> None:
    shutil.copytree(saved("llama").model, tmp_path / "model")
    source, file = PolicySource(str(tmp_path / "model")), tmp_path / "model" / "config.json"
    content = {key: value for key, value in json.loads(file.read_text()).items() if key != "dtype"}
    for settings, wanted in (
        ({}, "float32"),
        ({"torch_dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "float16"}, "float16"),
    ):
        file.write_text(json.dumps(content | settings))
        assert saved_dtype(source) == wanted


def test_an_adapter_has_its_own_data_type(saved: Saved, tmp_path: Path) -> None:
    source = tiny.save_adapter(tmp_path / "adapter", saved("llama"))
    assert saved_dtype(source) == "float32"
    cast_saved(tmp_path / "adapter", "bfloat16")
    assert saved_dtype(source) == "bfloat16"
    assert saved_dtype(replace(source, adapter=None)) == "float32"


def test_what_rounding_leaves_of_a_change(tmp_path: Path) -> None:
    """Between 1 and 2 numbers of bfloat16 are 1/128 apart."""

    def model(name: str, *weights: float) -> Path:
        (tmp_path / name).mkdir()
        save_file({"w": torch.tensor(weights)}, tmp_path / name / "model.safetensors")
        return tmp_path / name

    before = model("before", 1.0, 1.5)
    assert kept_change(before, model("less", 1.0 + 1 / 512, 1.5 - 1 / 512), "bfloat16") == 0.0
    assert kept_change(before, model("step", 1.0 + 1 / 128, 1.5 - 1 / 32), "bfloat16") == 1.0
    # Of the changes 3/512 and 1/512 the first becomes 4/512 and the second nothing: (4 * 3 + 0) / (9 + 1).
    assert kept_change(before, model("both", 1.0 + 3 / 512, 1.5 + 1 / 512), "bfloat16") == pytest.approx(1.2)
    assert kept_change(before, model("same", 1.0, 1.5), "bfloat16") is None
