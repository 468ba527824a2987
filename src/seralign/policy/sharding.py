"""Models that are divided over the processes, each of which keeps a part of every weight (FSDP2, ``fully_shard``).

The weights of a decoder layer are gathered when it computes, forward or backward, and dropped afterwards.
"""

from __future__ import annotations

import warnings
from typing import Any
from weakref import WeakKeyDictionary

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from seralign import distributed
from seralign.errors import ModelError
from seralign.policy.forward import inner_model, is_reward_model

# The data type in which a divided model computes, by the transformers model inside.
_COMPUTES: WeakKeyDictionary[nn.Module, torch.dtype] = WeakKeyDictionary()


def divide(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """Divide a model over the processes, and move it to their devices. Every process calls it.

    Every process must then run the model equally often, each on its own rows.

    Args:
        model: A transformers model, with or without an adapter, with the same weights in every process. On a machine
            with GPUs it may be in main memory: each layer is divided before the next one is moved.
        dtype: Data type in which gathered weights compute, in mixed precision; gradients are summed in float32. None
            computes in the data type of the weights.

    Raises:
        ModelError: transformers does not say which modules of the model are its layers.
    """
    device: Any = PartialState().device
    inner = inner_model(model)
    layers = _layers(inner)
    if not layers:
        raise ModelError(
            f"policy.model: {type(inner).__name__} does not name its layers (_no_split_modules), so it cannot be "
            "divided; remove training.shard"
        )
    mesh = init_device_mesh(device.type, (distributed.world_size(),))
    reduced = None if dtype is None else torch.float32
    inside = MixedPrecisionPolicy(dtype, reduced)
    around = MixedPrecisionPolicy(dtype, reduced, cast_forward_inputs=False)
    # The score of a reward model computes in the data type of its weights, as without division.
    exact = MixedPrecisionPolicy(cast_forward_inputs=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for part in layers:
            fully_shard(part, mesh=mesh, mp_policy=inside, reshard_after_forward=True)
        if is_reward_model(inner) and isinstance(inner.score, nn.Linear):
            fully_shard(inner.score, mesh=mesh, mp_policy=exact, reshard_after_forward=True)
        for part in _ends(inner):
            fully_shard(part, mesh=mesh, mp_policy=around, reshard_after_forward=True)
        # Nothing stays gathered between passes, so that weights can be changed there.
        fully_shard(model, mesh=mesh, mp_policy=around, reshard_after_forward=True)
    _COMPUTES[inner] = inner.dtype if dtype is None else dtype
    return model


def is_divided(model: nn.Module) -> bool:
    """Whether a model is divided over the processes."""
    return inner_model(model) in _COMPUTES


def computes_in(model: Any) -> torch.dtype:
    """The data type in which a transformers model computes outside of autocast."""
    inner: Any = inner_model(model)
    own: torch.dtype = inner.dtype
    return _COMPUTES.get(inner, own)


def own_part(weight: Tensor) -> Tensor:
    """The part of a weight that this process keeps, sharing its memory; a whole weight as it is."""
    own: Any = weight.detach()
    return own.to_local() if isinstance(weight, DTensor) else own


def whole(part: Tensor, weight: Tensor) -> Tensor:
    """The whole of the parts that the processes have, divided as ``weight`` is. Every process calls it."""
    if not isinstance(weight, DTensor):
        return part
    divided = DTensor.from_local(
        part, weight.device_mesh, weight.placements, run_check=False, shape=weight.shape, stride=weight.stride()
    )
    return divided.full_tensor()


def part_of(value: Tensor, weight: Tensor) -> Tensor:
    """This process's part of a whole tensor, divided as ``weight`` is. Every process calls it."""
    value = value.to(own_part(weight).device)
    if not isinstance(weight, DTensor):
        return value
    return distribute_tensor(value, weight.device_mesh, weight.placements).to_local()


def _layers(inner: Any) -> list[nn.Module]:
    names = set(getattr(inner, "_no_split_modules", None) or ())
    return [module for module in reversed(list(inner.modules())) if type(module).__name__ in names]


def _ends(inner: Any) -> list[nn.Module]:
    """The input embedding and the output layer, if they are separate."""
    first, last = inner.get_input_embeddings(), inner.get_output_embeddings()
    plain = [each for each in (first, last) if isinstance(each, nn.Embedding | nn.Linear)]
    weights = [each.weight for each in plain]
    is_tied = len(weights) == 2 and weights[0] is weights[1]
    return [] if is_tied else [each for each in plain if not isinstance(each, FSDPModule)]
