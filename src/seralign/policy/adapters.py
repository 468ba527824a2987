"""Adapters: load a trained one, add a new one, merge one into its base."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from seralign.config import LoraConfig, PolicyConfig
from seralign.errors import ModelError, brief
from seralign.policy.forward import inner_model
from seralign.policy.identity import ADAPTER_SETTINGS, PolicySource, check_adapter_folder, open_tensors, read_json
from seralign.policy.quiet import quiet_transformers
from seralign.policy.settings import model_settings

WEIGHTS = "adapter_model.safetensors"
# Last parts of the names of input and output embeddings.
EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "lm_head", "embed_out", "output")
# Last parts of the names of whole matrices that an adapter saves in place of the base's.
_WHOLE = ("weight", "modules_to_save.weight", "base_layer.weight")
_MISFIT = re.compile(r"size mismatch for (\S+): .*?torch\.Size\(\[([^]]*)\]\).*?torch\.Size\(\[([^]]*)\]\)")

Shapes = dict[str, tuple[int, ...]]


def load_adapter(model: PreTrainedModel, source: PolicySource, trainable: bool) -> nn.Module:
    """Load a trained adapter onto its base; resizes the base's embedding if the adapter has one of another size.

    Raises:
        ModelError: it was trained on another model, or it is not an adapter.
    """
    from peft import PeftModel, get_peft_model_state_dict

    folder = Path(str(source.adapter))
    if folder.is_dir():
        check_adapter_folder(folder)
        _resize(model, folder)
    try:
        with quiet_transformers():
            loaded = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except Exception as error:
        raise ModelError(f"{_does_not_fit(source)}: {_why(error)}") from None
    # When PEFT saves, it compares with the model of this name to see whether the embedding was resized.
    loaded.peft_config["default"].base_model_name_or_path = source.model
    if folder.is_dir():
        own, given = set(get_peft_model_state_dict(loaded, save_embedding_layers=False)), set(_shapes(folder))
        if missing := sorted(own - given):
            raise ModelError(f"{_does_not_fit(source)}: it has no {missing[0]} ({len(missing)} weights are missing)")
        if excess := sorted(key for key in given - own if ".lora_" in key or ".ia3_" in key):
            raise ModelError(
                f"{_does_not_fit(source)}: the model has no place for {excess[0]} ({len(excess)} weights are left over)"
            )
    return loaded


def fresh_adapter(model: PreTrainedModel, lora: LoraConfig, task: str) -> nn.Module:
    """Add an untrained LoRA adapter, which does not change the model's output.

    Args:
        model: The model.
        lora: The adapter.
        task: ``Head.task``. With ``SEQ_CLS`` the score is trained, and saved with the adapter.

    Raises:
        ModelError: the model lacks the target modules.
    """
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    try:
        settings = PeftLoraConfig(r=lora.r, lora_alpha=lora.alpha, target_modules=lora.target_modules, task_type=task)
        with quiet_transformers():
            return get_peft_model(model, settings)
    except ValueError as error:
        raise ModelError(f"policy.lora.target_modules: {brief(error)}") from None


def merged(model: nn.Module, source: PolicySource) -> PreTrainedModel:
    """The base with the adapter merged into its weights.

    Raises:
        ModelError: this kind of adapter cannot be merged.
    """
    _untie(inner_model(model))
    try:
        with quiet_transformers():
            return model.merge_and_unload()  # pyright: ignore[reportCallIssue]
    except (AttributeError, ValueError, NotImplementedError, TypeError) as error:
        raise ModelError(f"{source.adapter}: this adapter cannot be merged: {brief(error)}") from None


def _untie(model: Any) -> None:
    """Copy the output embedding if it is tied to the input embedding and an adapter changes only one of them."""
    own, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or not (hasattr(own, "base_layer") or hasattr(head, "base_layer")):
        return
    own, head = (getattr(module, "base_layer", module) for module in (own, head))
    if head.weight is own.weight:
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)


def vocabulary_rows(source: PolicySource, config: PolicyConfig) -> int:
    """Rows of a policy's embedding: the adapter's if it has one, else the model's. Reads no weights.

    Raises:
        ModelError: the model's settings cannot be read.
    """
    if source.adapter is not None and Path(source.adapter).is_dir():
        for key, shape in _shapes(Path(source.adapter)).items():
            if any(_whole(key, name) for name in EMBEDDINGS):
                return shape[0]
    return int(model_settings(source, config).get_text_config().vocab_size)


def _resize(model: PreTrainedModel, folder: Path) -> None:
    """Resize the base's embedding to the number of rows of the adapter's."""
    modules = {module: name for name, module in model.named_modules()}
    own: Any = model.get_input_embeddings()
    head = model.get_output_embeddings()
    names = [modules[module] for module in (own, head) if module is not None]
    shapes = _shapes(folder)
    saved = {name: shape[0] for name in names for key, shape in shapes.items() if _whole(key, name)}
    before = own.weight.shape[0]
    tokens = read_json(folder / ADAPTER_SETTINGS).get("trainable_token_indices") or []
    tokens = [token for part in tokens.values() for token in part] if isinstance(tokens, dict) else tokens
    rows = next(iter(saved.values()), max([before, *(token + 1 for token in tokens)]))
    if rows == before:
        return
    is_tied = head is None or head.weight is own.weight
    if not saved or not (is_tied or saved.keys() == set(names)):
        raise ModelError(
            f"{folder}: the adapter's embedding has {rows} rows and the model's {before}, and the new rows of "
            f"{' and '.join(name for name in names if name not in saved)} were not saved with the adapter; give the "
            "model that it was trained on"
        )
    with quiet_transformers(), torch.random.fork_rng(devices=[]):  # the adapter replaces every row afterwards
        model.resize_token_embeddings(rows, mean_resizing=False)


def _whole(key: str, name: str) -> bool:
    """Whether a tensor in an adapter's file is the whole matrix of a module."""
    return any(key == f"{name}.{part}" or key.endswith(f".{name}.{part}") for part in _WHOLE)


def _shapes(folder: Path) -> Shapes:
    with open_tensors(folder / WEIGHTS) as tensors:
        return {key: tuple(tensors.get_slice(key).get_shape()) for key in sorted(tensors.keys())}


def _does_not_fit(source: PolicySource) -> str:
    settings = Path(str(source.adapter)) / ADAPTER_SETTINGS
    base = read_json(settings).get("base_model_name_or_path") if settings.is_file() else None
    trained = f" (trained on {base})" if base else ""
    return f"the adapter {source.adapter}{trained} does not fit the model {source.model}"


def _why(error: Exception) -> str:
    found = _MISFIT.search(" ".join(str(error).split()))
    if found is None:
        return brief(error)
    name, saved, own = found.groups()
    return f"{name.removeprefix('base_model.model.')} is {_shape(saved)} there and {_shape(own)} in the model"


def _shape(sizes: str) -> str:
    return sizes.replace(", ", "x")
