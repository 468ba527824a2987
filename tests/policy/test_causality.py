"""A model that attends to later tokens is refused at its first use, whatever its name; rounding is not taken for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import (
    BertConfig,
    ElectraConfig,
    MambaConfig,
    PretrainedConfig,
    RobertaConfig,
    RwkvConfig,
    XLNetConfig,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from seralign.errors import ModelError
from seralign.policy.abilities import abilities
from seralign.policy.quiet import quiet_transformers
from seralign.policy.sampling import SamplingParams, sample
from seralign.records import Prompt

_SHAPE: dict[str, Any] = {
    "vocab_size": 48, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64,
}  # fmt: skip
BERTS: dict[str, type[PretrainedConfig]] = {"bert": BertConfig, "roberta": RobertaConfig, "electra": ElectraConfig}
CAUSAL = (
    *tiny.ARCHITECTURES, "qwen3", "gemma", "gemma2", "gemma3", "phi", "cohere", "granite", "lfm2", "bloom", "falcon"
)  # fmt: skip


def model_of(config: PretrainedConfig) -> Any:
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("scale", [0.02, 0.3])
@pytest.mark.parametrize("name", list(BERTS))
def test_a_masked_language_model_is_refused_and_its_decoder_is_not(name: str, scale: float) -> None:
    config = BERTS[name](**_SHAPE, initializer_range=scale)
    with pytest.raises(ModelError, match=r" attends to later tokens \(.*\); a causal language model is needed"):
        abilities(model_of(config))
    abilities(model_of(BERTS[name](**_SHAPE, initializer_range=scale, is_decoder=True)))


def test_xlnet_attends_to_later_tokens() -> None:
    config = XLNetConfig(vocab_size=48, d_model=32, n_layer=2, n_head=4, d_inner=48, initializer_range=0.3)
    with pytest.raises(ModelError, match="XLNetLMHeadModel attends to later tokens"):
        abilities(model_of(config))


def test_it_is_refused_before_anything_is_sampled() -> None:
    model = model_of(BertConfig(**_SHAPE))
    params = SamplingParams(1, 1.0, 1.0, 2)
    with pytest.raises(ModelError, match="attends to later tokens"):
        sample(model, tiny.make_tokenizer(), [Prompt("0", "", (3, 4))], params, frozenset({0}), 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [0.002, 0.02, 0.3])
@pytest.mark.parametrize("name", CAUSAL)
def test_rounding_is_not_taken_for_later_tokens(name: str, scale: float, dtype: torch.dtype) -> None:
    model = tiny.make_model(name, initializer_range=scale).to(dtype)
    assert abilities(model).attention == model.config._attn_implementation


@pytest.mark.parametrize(
    "config",
    [
        MambaConfig(vocab_size=48, hidden_size=32, num_hidden_layers=2, state_size=4),
        RwkvConfig(vocab_size=48, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, context_length=64),
    ],
    ids=lambda config: config.model_type,
)
@pytest.mark.filterwarnings("ignore")
def test_recurrent_models_are_causal(config: PretrainedConfig, tmp_path: Path) -> None:
    assert abilities(model_of(config)).longest == 0, "padded, not refused"
