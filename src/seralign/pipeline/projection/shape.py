"""Sizes of a model from its configuration alone. No weights are read or made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from seralign.config import LoraConfig, PolicyConfig
from seralign.errors import ConfigError, ModelError
from seralign.pipeline.projection.architectures import ARCHITECTURES, known_architecture
from seralign.policy.admission import check_kind
from seralign.policy.casting import cast_layers
from seralign.policy.identity import PolicySource
from seralign.policy.quiet import quiet_transformers

# Names of the layer that opens the gate of a gated feed-forward part.
_GATES = ("gate_proj", "gate_up_proj", "w1")


@dataclass(frozen=True)
class ModelShape:
    """What memory and time depend on.

    Args:
        weights: Number of weights; a matrix that embedding and output layer share counts once.
        products: Weights of matrix products: of the layers' linear modules and of the output layer.
        layer: Weights of one layer.
        head: Weights of the output layer.
        layers: Number of layers.
        width: Of the hidden states.
        inner: Width of the feed-forward part.
        gated: Whether the feed-forward part has a gate.
        queries: Width of all query heads.
        keys: Width of all key heads.
        heads: Number of query heads.
        vocabulary: Number of tokens.
        cast: Weights that scoring in mixed precision casts once.
        matrix: The largest weight of a matrix product.
        recast: The largest weight of a matrix product that is cast for every pass: of an output layer that shares it
            with the embedding, or of a linear layer of a class of its own; 0 if there is none.
        unfused: Norms of a layer that ``seralign.policy.norms`` does not fuse.
        lora: Weights of a new adapter; 0 where all weights are trained.
    """

    weights: int
    products: int
    layer: int
    head: int
    layers: int
    width: int
    inner: int
    gated: bool
    queries: int
    keys: int
    heads: int
    vocabulary: int
    cast: int
    matrix: int
    recast: int
    unfused: int = 0
    lora: int = 0

    @property
    def trained(self) -> int:
        """Number of trained weights."""
        return self.lora or self.weights


def model_config(policy: PolicyConfig) -> PretrainedConfig:
    """The configuration of the model of a run: of a folder, or of an architecture by name.

    Raises:
        ConfigError: neither a folder nor a known name.
        ModelError: the folder's model cannot be a policy.
    """
    name = str(policy.model)
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise ModelError(f"policy.model: {name} has no config.json")
        return _folder_config(name, policy)
    settings = known_architecture(name)
    if settings is None:
        raise ConfigError(
            f"policy.model: {name} is neither a folder with a config.json nor a known architecture; known are "
            f"{', '.join(ARCHITECTURES)}, and their names on the hub. If a run has yet to make that folder, name its "
            "architecture: --policy.model ARCHITECTURE"
        )
    return AutoConfig.for_model(**settings)


def _folder_config(folder: str, policy: PolicyConfig) -> PretrainedConfig:
    return check_kind(PolicySource(folder), policy, "")


def model_shape(config: PretrainedConfig, lora: LoraConfig | None, trust_remote_code: bool = False) -> ModelShape:
    """Sizes of a model, counted on torch's device ``meta``."""
    with quiet_transformers(), torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    text: Any = config.get_text_config()
    head = model.get_output_embeddings()
    layers = _layers(model, int(text.num_hidden_layers))
    heads = int(text.num_attention_heads)
    each = getattr(text, "head_dim", None) or text.hidden_size // heads
    keys = getattr(text, "num_key_value_heads", None) or heads
    cast = cast_layers(model)
    once = {id(layer) for layer in cast}
    matrices = {id(part): _linear_weights(part) for part in model.modules() if _is_linear(part)}
    return ModelShape(
        weights=_count(model),
        products=sum(_linear_weights(layer) for layer in layers) + _count(head),
        layer=_count(layers[0]),
        head=_count(head),
        layers=len(layers),
        width=int(text.hidden_size),
        inner=int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size),
        gated=any(name.rpartition(".")[2] in _GATES for name, _ in layers[0].named_modules()),
        queries=heads * each,
        keys=keys * each,
        heads=heads,
        vocabulary=int(text.vocab_size),
        cast=sum(map(_count, cast)),
        matrix=max(matrices.values()),
        recast=max((size for number, size in matrices.items() if number not in once), default=0),
        unfused=sum(_unfused(module) for module in layers[0].modules()),
        lora=0 if lora is None else _lora_weights(model, head, lora),
    )


def _layers(model: nn.Module, count: int) -> nn.ModuleList:
    found = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    if not found:
        raise ModelError(f"{type(model).__name__}: its layers were not found, so it cannot be planned from formulas")
    return found[0]


def _linear_weights(module: nn.Module) -> int:
    # GPT-2 has its own class of linear layers.
    return sum(part.weight.numel() for part in module.modules() if _is_linear(part))  # pyright: ignore


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _unfused(module: nn.Module) -> bool:
    """Whether a module is a root-mean-square norm whose weights count from one, as Gemma's do."""
    name = type(module).__name__
    return name.startswith("Gemma") and name.endswith("RMSNorm")


def _lora_weights(model: nn.Module, head: nn.Module, lora: LoraConfig) -> int:
    """Weights of an adapter: r times inputs and outputs of each matrix that it is put on; not on the output layer."""
    targets = lora.target_modules
    found = 0
    for name, module in model.named_modules():
        wanted = targets == "all-linear" or any(
            name == target or name.endswith(f".{target}")
            for target in ([targets] if isinstance(targets, str) else targets)
        )
        if module is not head and _is_linear(module) and wanted:
            found += lora.r * sum(module.weight.shape)  # pyright: ignore
    if not found:
        raise ConfigError(f"policy.lora.target_modules: no linear module of the model is named {targets}")
    return found


def _count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
