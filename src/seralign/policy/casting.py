"""Weights that are cast once, where a model only scores in mixed precision.

Autocast casts the weights of linear layers again for every forward pass, and keeps both copies while it runs. A model
that never trains needs the cast ones alone: the results are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import modeling_utils

from seralign.policy.abilities import trial_values
from seralign.policy.forward import inner_model, is_reward_model
from seralign.policy.release import trim

# Bytes of float32 weights that may be freed before they are returned to the system.
_TRIM = 2**25


def cast_linear_layers(model: nn.Module, dtype: torch.dtype) -> bool:
    """Cast the weights of a model's linear layers to the data type of autocast, for scoring without gradient.

    Everything else stays: norms, embeddings, an output layer that shares its weight with the embedding, and the score
    of a reward model, which computes in float32.

    Returns:
        Whether the model computes the same under autocast as before, to the last bit, on a few tokens. If not, load it
        again without this.
    """
    model.requires_grad_(False)  # autocast keeps the casts of weights that require a gradient
    before = trial_values(model, dtype)
    freed = 0
    for layer in cast_layers(model):
        for weight in layer.parameters():
            freed += weight.nbytes
            weight.data = weight.data.to(dtype)
            if freed > _TRIM:  # what the loader's threads allocated is not used for the cast weights
                trim()
                freed = 0
    try:
        return torch.equal(before, trial_values(model, dtype))
    except Exception:  # unknown code can fail in any way, such as by a product of two data types
        return False


def cast_layers(model: nn.Module) -> list[nn.Linear]:
    """The linear layers that ``cast_linear_layers`` casts."""
    stays = _other_weights(model)
    linear = (module for module in model.modules() if type(module) is nn.Linear)
    return [layer for layer in linear if not any(id(weight) in stays for weight in layer.parameters())]


def _other_weights(model: nn.Module) -> set[int]:
    """The identities of weights that modules other than linear layers have, and of a reward model's score."""
    inner = inner_model(model)
    found = {
        id(weight)
        for module in model.modules()
        if type(module) is not nn.Linear
        for weight in module.parameters(recurse=False)
    }
    return found | ({id(weight) for weight in inner.score.parameters()} if is_reward_model(inner) else set())


@contextmanager
def read_not_mapped() -> Iterator[None]:
    """Let transformers read the weights of a model that is loaded in this block, in place of mapping their files.

    The pages of a mapped file stay in memory until its last weight is gone, also those of weights that were cast.
    """
    settings: Any = modeling_utils
    mapped = settings.safe_open
    settings.safe_open = partial(_read, mapped)
    try:
        yield
    finally:
        settings.safe_open = mapped


def _read(opened: Any, *args: Any, **options: Any) -> Any:
    return opened(*args, **(options | {"backend": "pread"}))
