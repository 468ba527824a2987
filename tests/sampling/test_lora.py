"""Which LoRA adapters vLLM is given to load, and for which its server has room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from safetensors.torch import load_file, save_file

from seralign.sampling.lora import AdapterRefused, server_arguments


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"use_dora": True}, "it has use_dora"),
        ({"rank_pattern": {"q_proj": 2}}, "it has rank_pattern"),
        ({"alpha_pattern": {"q_proj": 2}}, "it has alpha_pattern"),
        ({"modules_to_save": ["norm"]}, "it has modules_to_save"),
        ({"trainable_token_indices": [3]}, "it has trainable_token_indices"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens.* is no low-rank matrix"),
        ({"target_modules": ["q_proj", "lm_head"]}, "lm_head.base_layer.weight, which is no low-rank matrix"),
        ({"r": 520, "target_modules": ["q_proj"]}, "its rank is 520, over 512"),
    ],
)
def test_adapters_that_vllm_would_not_serve_as_peft_does_are_refused(
    settings: dict[str, Any], says: str, tmp_path: Path
) -> None:
    tiny.save_adapter(tmp_path / "adapter", tiny.save_model(tmp_path / "base"), **settings)
    with pytest.raises(AdapterRefused, match=says):
        server_arguments(tmp_path / "adapter")


@pytest.mark.parametrize(("r", "rank"), [(4, 8), (8, 8), (9, 16), (512, 512)])
def test_the_server_has_room_for_the_rank_of_the_adapter(r: int, rank: int, tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    tiny.save_adapter(tmp_path / "adapter", base, r=r, use_rslora=True, target_modules=["q_proj"])
    assert server_arguments(tmp_path / "adapter")[1:] == (
        "--max-lora-rank", str(rank), "--lora-target-modules", "q_proj",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"peft_type": "LOHA"}, "its kind is LOHA, not LORA"),
        ({"lora_bias": True}, "it has lora_bias"),
        ({"init_lora_weights": "pissa"}, "it has init_lora_weights pissa"),
        ({"setting_of_a_later_peft": 1}, "it has setting_of_a_later_peft"),
    ],
)
def test_settings_that_are_not_known_are_refused(setting: dict[str, Any], says: str, tmp_path: Path) -> None:
    file = tmp_path / "adapter" / "adapter_config.json"
    tiny.save_adapter(tmp_path / "adapter", tiny.save_model(tmp_path / "base"))
    file.write_text(json.dumps(json.loads(file.read_text()) | setting))
    with pytest.raises(AdapterRefused, match=says):
        server_arguments(tmp_path / "adapter")


def test_low_rank_matrices_of_an_embedding_are_refused(tmp_path: Path) -> None:
    """PEFT saves the whole matrix with them unless it is told not to."""
    tiny.save_adapter(tmp_path / "adapter", tiny.save_model(tmp_path / "base"), target_modules=["q_proj", "lm_head"])
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: value for name, value in load_file(file).items() if ".lora_" in name}, file)
    with pytest.raises(AdapterRefused, match="it changes the embedding lm_head"):
        server_arguments(tmp_path / "adapter")
