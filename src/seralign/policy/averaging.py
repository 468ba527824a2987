"""The average of two saved policies."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from seralign.errors import ModelError
from seralign.policy.identity import open_tensors, weight_files


def write_average(earlier: Path, later: Path, folder: Path, decay: float) -> None:
    """Write decay * earlier + (1 - decay) * later: the weights of two models, or of two adapters on the same model.

    Each weight is averaged in float32, and rounded to its data type. All other files are those of ``later``.

    Args:
        earlier: A saved policy.
        later: Another one, with the same weights.
        folder: Where to write; what is there is replaced.
        decay: Weight of the earlier one, between 0 and 1.

    Raises:
        ModelError: the two have weights of other names or shapes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    files = weight_files(later)
    names = {file.name for file in files}
    shutil.copytree(later, folder, ignore=lambda _, found: [name for name in found if name in names])
    others = {name: file for file in weight_files(earlier) for name in _names(file)}
    for file in files:
        with open_tensors(file) as tensors:
            metadata = tensors.metadata()
        averaged = {}
        for name in _names(file):
            new = _tensor(file, name)
            old = _tensor(others.pop(name), name) if name in others else None
            if old is None or old.shape != new.shape:
                raise ModelError(f"{later} and {earlier} cannot be averaged: they differ in the weight {name}")
            averaged[name] = torch.lerp(new.float(), old.float(), decay).to(new.dtype)
        save_file(averaged, folder / file.name, metadata)
        shutil.copymode(file, folder / file.name)
    if others:
        raise ModelError(f"{later} and {earlier} cannot be averaged: only the latter has the weight {min(others)}")


def _names(file: Path) -> list[str]:
    with open_tensors(file) as tensors:
        return sorted(tensors.keys())


def _tensor(file: Path, name: str) -> Tensor:
    with open_tensors(file) as tensors:
        return tensors.get_tensor(name)
