"""The data type of saved weights: which one a policy has, and conversion of a folder."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file

from seralign.errors import ModelError
from seralign.policy.identity import ADAPTER_SETTINGS, SETTINGS, PolicySource, open_tensors, read_json, weight_files
from seralign.policy.load import DTYPES
from seralign.runs.files import write_json

_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def saved_dtype(source: PolicySource) -> str:
    """The data type of a saved policy: the adapter's, else what ``config.json`` says, else that of most weights.

    Args:
        source: Local folders.
    """
    if source.adapter is None:
        settings = read_json(Path(source.model) / SETTINGS)
        named = settings.get("dtype") or settings.get("torch_dtype")
        if named in DTYPES:
            return str(named)
    counts: Counter[str] = Counter()
    for file in weight_files(Path(source.adapter or source.model)):
        with open_tensors(file) as tensors:
            for name in sorted(tensors.keys()):
                part = tensors.get_slice(name)
                counts[_NAMES.get(part.get_dtype(), "")] += torch.Size(part.get_shape()).numel()
    del counts[""]
    return counts.most_common(1)[0][0] if counts else "float32"


def kept_change(before: Path, after: Path, dtype: str) -> float | None:
    """Share of the training's changes that survives rounding the weights to a data type.

    It is the projection of the rounded change on the full change. A weight that moved by less than half a step of the
    data type rounds back to its old value if that was representable.

    Args:
        before: A model's folder before training.
        after: The same model after training.
        dtype: The data type to round to.

    Returns:
        About 1 if rounding does no harm, 0 if it undoes everything; None if nothing changed.
    """
    left = whole = 0.0
    files = {name: file for file in weight_files(before) for name in _names_in(file)}
    for file in weight_files(after):
        for name in _names_in(file):
            if name not in files:
                continue
            old, new = (_tensor(place, name) for place in (files[name], file))
            if new.is_floating_point() and old.shape == new.shape:
                change = new.double() - old.double()
                left += float(((new.to(DTYPES[dtype]).double() - old.double()) * change).sum())
                whole += float(change.square().sum())
    return left / whole if whole else None


def _names_in(file: Path) -> list[str]:
    with open_tensors(file) as tensors:
        return sorted(tensors.keys())


def _tensor(file: Path, name: str) -> torch.Tensor:
    with open_tensors(file) as tensors:
        return tensors.get_tensor(name)


def cast_saved(folder: Path, dtype: str) -> None:
    """Round the weights of a saved model or adapter to a data type, one file at a time.

    Raises:
        ModelError: a weight is too large for the data type; no file was changed.
    """
    files, wanted = weight_files(folder), DTYPES[dtype]
    largest, size = torch.finfo(wanted).max, 0
    for file in files:
        with open_tensors(file) as tensors:
            for name in sorted(tensors.keys()):
                tensor = tensors.get_tensor(name)
                if tensor.is_floating_point() and bool((tensor.abs() > largest).any()):
                    raise ModelError(f"{name} has weights beyond {largest:g}, the largest number of {dtype}")
    for file in files:
        with open_tensors(file) as tensors:
            found = {name: tensors.get_tensor(name) for name in sorted(tensors.keys())}
            metadata = tensors.metadata()
        cast = {name: tensor.to(wanted) if tensor.is_floating_point() else tensor for name, tensor in found.items()}
        size += sum(tensor.numel() * tensor.element_size() for tensor in cast.values())
        part = file.with_name(f"{file.name}.tmp")
        save_file(cast, part, metadata)
        shutil.copymode(file, part)  # safetensors creates files that only the owner may read
        part.replace(file)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        content = read_json(index)
        write_json(index, content | {"metadata": content.get("metadata", {}) | {"total_size": size}})
    if not (folder / ADAPTER_SETTINGS).is_file():
        settings = read_json(folder / SETTINGS)
        settings.pop("torch_dtype", None)
        write_json(folder / SETTINGS, settings | {"dtype": dtype})
