"""A key-value cache whose rows can be repeated, dropped and extended cheaply."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

_ROOM = 64


def holds_keys_and_values_alone(config: PretrainedConfig) -> bool:
    """Whether every layer keeps only keys and values, of all tokens or of a window."""
    return {type(layer) for layer in DynamicCache(config=config).layers} <= {DynamicLayer, DynamicSlidingWindowLayer}


def growing_cache(config: PretrainedConfig) -> DynamicCache:
    """An empty cache for a model with this configuration."""
    cache = DynamicCache(config=config)
    cache.layers = [_GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def selected(cache: DynamicCache, rows: Tensor) -> DynamicCache:
    """A copy of the rows [R] of a cache; a row may be repeated."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(rows)
    return chosen


def bytes_a_token(cache: DynamicCache) -> int:
    """Bytes of one token in one row; the cache must not be empty."""
    held = [tensor for keys, values, _ in cache for tensor in (keys, values) if tensor is not None]
    return sum(tensor_RHTD.element_size() * tensor_RHTD[0, :, 0].numel() for tensor_RHTD in held)


class _GrowingLayer(DynamicLayer):
    """Keys and values [R, H, T, D] with spare room. DynamicLayer copies all of them for every new token."""

    def __init__(self) -> None:
        super().__init__()
        self._room: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        held = self.get_seq_length()
        if held == 0:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return key_states, value_states
        end = held + key_states.shape[2]
        if not self._room or self._room[0].shape[2] < end:
            self._room = [_with_room(tensor, end + _ROOM) for tensor in (self.keys, self.values) if tensor is not None]
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, held:end] = new
        self.keys, self.values = (room[:, :, :end] for room in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._room = []


def _with_room(tensor: Tensor, length: int) -> Tensor:
    rows, heads, held, size = tensor.shape
    room = torch.empty(rows, heads, length, size, dtype=tensor.dtype, device=tensor.device)
    room[:, :, :held] = tensor
    return room
