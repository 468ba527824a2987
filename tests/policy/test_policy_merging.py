"""Merging adapters of many kinds: the merged model is base and adapter, and has the base's settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig

from seralign.config import LoraConfig, PolicyConfig
from seralign.errors import ModelError
from seralign.policy.load import load_model
from seralign.policy.merging import write_merged
from seralign.policy.quiet import quiet_transformers

IDS = torch.tensor([[5, 9, 27, 20, 31, 4, 18]])


@torch.no_grad()
def logits(model: Path, adapter: str | None = None) -> np.ndarray:
    """In float64, as a user opens it."""
    with quiet_transformers():
        opened: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)
        opened = opened if adapter is None else PeftModel.from_pretrained(opened, adapter).double()
    return opened.eval()(IDS).logits.numpy()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("llama", {"use_dora": True}),
        ("llama", {"target_modules": ["embed_tokens", "lm_head"]}),
        ("llama", {"trainable_token_indices": [5, 9]}),
        ("gpt2", {"use_rslora": True}),
        # Two embeddings that are one matrix, of which the adapter changes one.
        ("llama-tied", {"target_modules": ["q_proj", "lm_head"]}),
        ("llama-tied", {"target_modules": ["embed_tokens"]}),
        ("llama-tied", {"target_modules": ["embed_tokens", "lm_head"]}),
        ("llama-tied", {"modules_to_save": ["lm_head"]}),
        ("llama-tied", {"trainable_token_indices": [5, 9]}),
        ("llama-tied", {}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings=True. and a tied layer:UserWarning")
def test_the_merged_model_is_base_and_adapter(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    source = tiny.save_adapter(tmp_path / "adapter", tiny.save_model(tmp_path / "model", name), **settings)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    moved = {
        key: value + 0.3 if key.endswith("lm_head.weight") or "trainable_tokens" in key else value
        for key, value in load_file(file).items()
    }
    save_file(moved, file, metadata={"format": "pt"})
    config = PolicyConfig(str(tmp_path / "model"), adapter=source.adapter)
    found = write_merged(source, config, tmp_path / "whole", "float32", "it")
    wanted = logits(tmp_path / "model", source.adapter)
    np.testing.assert_allclose(logits(tmp_path / "whole"), wanted, atol=3e-5)
    assert np.abs(wanted - logits(tmp_path / "model")).max() > 0.1, "the adapter does something"
    assert found.difference < 1e-4 < 0.01 < found.change
    with torch.no_grad():
        both = load_model(source, config, "float32", lora=LoraConfig(r=2))
        np.testing.assert_allclose(both(IDS).logits.numpy(), wanted, atol=1e-3)


@pytest.mark.parametrize("given", [None, {"eos_token_id": [0, 7], "temperature": 0.7}])
def test_generation_settings_are_the_base_s(given: dict[str, Any] | None, tmp_path: Path) -> None:
    """A temperature without sampling is published often, and transformers refuses to write it."""
    source = tiny.save_adapter(tmp_path / "adapter", tiny.save_model(tmp_path / "model"))
    file = tmp_path / "model" / "generation_config.json"
    file.unlink()
    if given is not None:
        file.write_text(json.dumps(given))
    write_merged(source, PolicyConfig(str(tmp_path / "model")), tmp_path / "whole", "bfloat16", "it")
    own = tmp_path / "whole" / "generation_config.json"
    assert own.is_file() == (given is not None)
    if given is not None:
        assert own.read_bytes() == file.read_bytes()
        assert GenerationConfig.from_pretrained(tmp_path / "whole").eos_token_id == [0, 7]
    assert {tensor.dtype for tensor in load_file(tmp_path / "whole" / "model.safetensors").values()} == {torch.bfloat16}


def test_quantized_weights_are_refused(tmp_path: Path) -> None:
    source = tiny.save_adapter(tmp_path / "adapter", tiny.save_model(tmp_path / "model"))
    file = tmp_path / "model" / "config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    with pytest.raises(ModelError, match=r"an adapter cannot be merged into quantized weights \(gptq\)"):
        write_merged(source, PolicyConfig(str(tmp_path / "model")), tmp_path / "whole", "float32", "it")
    assert not (tmp_path / "whole").exists()
