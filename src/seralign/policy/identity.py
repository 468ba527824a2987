"""Which weights a policy is: where they are, and a digest that names them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from seralign.errors import ModelError, one_line

# What a saved configuration says about the file rather than about the function that the model computes.
_VOLATILE = {
    "_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache",
    "base_model_name_or_path", "inference_mode", "revision", "auto_mapping", "peft_version",
}  # fmt: skip
# Sets of names, which PEFT writes in an order that differs from process to process.
_UNORDERED = {"target_modules", "modules_to_save", "exclude_modules"}
# A model's name on the hub, with or without its owner's; no path starts so or has more parts.
_HUB_NAME = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9_][\w.-]*")


@dataclass(frozen=True)
class PolicySource:
    """Where a policy's weights are: a model (folder or hub name) and perhaps an adapter on it."""

    model: str
    revision: str | None = None
    adapter: str | None = None

    def __str__(self) -> str:
        name = self.model if self.revision is None else f"{self.model}@{self.revision}"
        return name if self.adapter is None else f"{name} + {self.adapter}"


def fetch(source: PolicySource) -> PolicySource:
    """The source as local folders; a hub name is downloaded (weights in safetensors only).

    Raises:
        ModelError: no such folder, or the hub has no such model.
    """
    model = _fetch(source.model, source.revision, "config.json")
    adapter = None if source.adapter is None else _fetch(source.adapter, None, "adapter_config.json")
    return replace(source, model=str(model), revision=None, adapter=None if adapter is None else str(adapter))


def hub_name(model: str | None) -> str | None:
    """The name of a model on the hub, or None for a folder, here or elsewhere."""
    if model is None or Path(model).exists() or not _HUB_NAME.fullmatch(model):
        return None
    return model


def portable(path: str) -> str:
    """A path or a hub name as others may read it: of a path its last part, a hub name whole."""
    return path if hub_name(path) is not None else Path(path).expanduser().absolute().name


def weights_digest(source: PolicySource) -> str:
    """Identity of a policy: sha256 over its weights and the settings that change what they compute.

    Names, shapes, data types and bytes of all tensors count, in order of name, whatever the files they are split
    over; paths and library versions do not. An adapter's digest contains its base's.

    Args:
        source: Local folders, from :func:`fetch`.

    Raises:
        ModelError: a file is missing or corrupt.
    """
    digest = hashlib.sha256()
    for folder, settings in ((source.model, "config.json"), (source.adapter, "adapter_config.json")):
        if folder is not None:
            digest.update(json.dumps(_settings(Path(folder) / settings), sort_keys=True).encode())
            for header, data in _tensors(_weight_files(Path(folder))):
                digest.update(header)
                digest.update(data)
    return digest.hexdigest()


_KINDS = {"config.json": "model", "adapter_config.json": "adapter"}


def _fetch(name: str, revision: str | None, settings: str) -> Path:
    folder = Path(name)
    if folder.is_dir():
        if not (folder / settings).is_file():
            raise ModelError(f"{folder}: no {settings} here, so no {_KINDS[settings]} that transformers or PEFT saved")
        return folder.absolute()
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"{name}: no such folder")
    try:
        path = snapshot_download(
            name,
            revision=revision,
            allow_patterns=["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.py"],
            # The same weights again, in formats that transformers does not load.
            ignore_patterns=["consolidated*", "original/*", "onnx/*"],
        )
    except Exception as error:
        raise ModelError(f"{name}: neither a folder nor a model that the hub gives: {one_line(error)}") from None
    return Path(path)


def _settings(path: Path) -> dict[str, Any]:
    settings = _read_json(path)
    for key in _UNORDERED & settings.keys():
        if isinstance(settings[key], list):
            settings[key] = sorted(settings[key])
    # Dropout is always off here, so it changes nothing either.
    return {key: value for key, value in settings.items() if key not in _VOLATILE and "drop" not in key}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {one_line(error)}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not a JSON object")
    return value


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers and PEFT would load, among whatever else lies in the folder."""
    for name in ("adapter_model.safetensors", "model.safetensors"):
        if (folder / name).is_file():
            return [folder / name]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise ModelError(f"{folder}: no weights in safetensors here; other formats are not read")
    shards = _read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise ModelError(f"{index}: not an index of weights")
    return [folder / str(name) for name in sorted(set(shards.values()))]


def _tensors(files: list[Path]) -> Iterator[tuple[bytes, memoryview]]:
    where: dict[str, Path] = {}
    for file in files:
        with _open(file) as tensors:
            where |= dict.fromkeys(tensors.keys(), file)
    for name in sorted(where):
        with _open(where[name]) as tensors:
            value = tensors.get_tensor(name).contiguous()
        header = f"{name} {value.dtype} {tuple(value.shape)}\n".encode()
        yield header, value.reshape(-1).view(torch.uint8).numpy().data


def _open(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file}: corrupt or cut short: {one_line(error)}") from None
