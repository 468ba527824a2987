"""Which weights a policy is: where they are, and a digest that names them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from seralign.config.load import one_line
from seralign.errors import ModelError

# What a saved configuration says about the file rather than about the function that the model computes.
_VOLATILE = {
    "_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache",
    "base_model_name_or_path", "inference_mode", "revision", "auto_mapping", "peft_version",
}  # fmt: skip


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
            for header, data in _tensors(Path(folder)):
                digest.update(header)
                digest.update(data)
    return digest.hexdigest()


def _fetch(name: str, revision: str | None, settings: str) -> Path:
    folder = Path(name)
    if folder.is_dir():
        if not (folder / settings).is_file():
            raise ModelError(f"{folder}: no {settings} here, so no model that transformers saved")
        return folder.absolute()
    if folder.suffix or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"{name}: no such folder")
    try:
        path = snapshot_download(
            name, revision=revision, allow_patterns=["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.py"]
        )
    except Exception as error:
        raise ModelError(f"{name}: neither a folder nor a model that the hub gives: {one_line(error)}") from None
    return Path(path)


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {one_line(error)}") from None
    return {key: value for key, value in settings.items() if key not in _VOLATILE}


def _tensors(folder: Path) -> Iterator[tuple[bytes, memoryview]]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no weights in safetensors here; other formats are not read")
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
