"""Where a policy's weights are, and a digest that identifies them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from torch import Tensor

from seralign.config.paths import expanded
from seralign.errors import ModelError, brief
from seralign.hub import silence
from seralign.runs.layout import MANIFEST, RESULT

# Settings that describe the file, not the function that the model computes.
_VOLATILE = {
    "_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache",
    "base_model_name_or_path", "inference_mode", "revision", "auto_mapping", "peft_version",
}  # fmt: skip
# Sets of names. PEFT writes them in an order that differs between processes.
_UNORDERED = {"target_modules", "modules_to_save", "exclude_modules"}
# A model's name on the hub, with or without its owner. A path starts differently or has more parts.
_HUB_NAME = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9_][\w.-]*")


SETTINGS, ADAPTER_SETTINGS = "config.json", "adapter_config.json"
_OTHER_WEIGHTS = {".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".ckpt"}
_SAFETENSORS = "give the folder or the hub name of a model in safetensors"


@dataclass(frozen=True)
class PolicySource:
    """Where a policy's weights are: a model (folder or hub name), optionally with an adapter."""

    model: str
    revision: str | None = None
    adapter: str | None = None

    def __str__(self) -> str:
        name = self.model if self.revision is None else f"{self.model}@{self.revision}"
        return name if self.adapter is None else f"{name} + {self.adapter}"


def fetch(source: PolicySource, key: str = "policy") -> PolicySource:
    """Return the source as local folders. A hub model is downloaded (safetensors weights only).

    Args:
        source: Folders or hub names.
        key: Section of the configuration that names it; empty if a command names it.

    Raises:
        ModelError: the folder does not exist or holds something else, or the hub has no such model.
    """
    if source.revision is not None and Path(source.model).is_dir():
        raise ModelError(f"{key or 'policy'}.revision: {source.model} is a local folder without revisions; remove it")
    model = _fetch(source.model, source.revision, f"{key}.model: " if key else "")
    check_folder(model, key or "policy")
    if source.adapter is None:
        return replace(source, model=str(model), revision=None)
    adapter = _fetch(source.adapter, None, f"{key}.adapter: " if key else "")
    check_adapter_folder(adapter, key or "policy")
    return replace(source, model=str(model), revision=None, adapter=str(adapter))


def check_folder(folder: Path, key: str = "policy") -> None:
    """Check that a folder holds a transformers model.

    Raises:
        ModelError: it holds an adapter, GGUF weights or no model; the message says which.
    """
    if (folder / ADAPTER_SETTINGS).is_file():
        base = read_json(folder / ADAPTER_SETTINGS).get("base_model_name_or_path") or "its base"
        raise ModelError(
            f"{folder} is an adapter for {base}; give {base} as {key}.model and this folder as {key}.adapter"
        )
    if not (folder / SETTINGS).is_file():
        if (folder / MANIFEST).is_file():
            result = folder / RESULT
            instead = f"give its result, {result}" if result.is_dir() else "finish it, then give its result"
            raise ModelError(f"{folder} is the folder of a run, not of a model; {instead}")
        if any(folder.glob("*.gguf")):
            raise ModelError(f"{folder}: GGUF models are not supported; {_SAFETENSORS}")
        raise ModelError(f"{folder}: no {SETTINGS} here; give the folder of a model that transformers saved")


def check_adapter_folder(folder: Path, key: str = "policy") -> None:
    """Check that a folder holds a PEFT adapter.

    Raises:
        ModelError: it holds a whole model, or something else.
    """
    if not (folder / ADAPTER_SETTINGS).is_file():
        if (folder / SETTINGS).is_file():
            raise ModelError(f"{folder} is a whole model, not an adapter; give it as {key}.model")
        raise ModelError(f"{folder}: no {ADAPTER_SETTINGS} here; give the folder of an adapter that PEFT saved")
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(f"{folder}: no adapter_model.safetensors here; adapters are read from safetensors only")


def hub_name(model: str | None) -> str | None:
    """The model's name on the hub; None for a folder, whether or not it exists here."""
    if model is None or Path(model).exists() or not _HUB_NAME.fullmatch(model):
        return None
    return model


def portable(path: str) -> str:
    """A name that is safe to publish: a hub name as it is, only the last part of a path."""
    return path if hub_name(path) is not None else Path(expanded(path)).absolute().name


def weights_digest(source: PolicySource) -> str:
    """sha256 that identifies a policy: its weights and the settings that change what they compute.

    It covers the names, shapes, data types and bytes of all tensors in order of name, however they are split over
    files. It does not cover paths and library versions. An adapter's digest includes its base's.

    Args:
        source: Local folders, from ``fetch``.

    Raises:
        ModelError: a file is missing or corrupt.
    """
    return _digest(source, lambda *_: None)


def finite_digest(source: PolicySource) -> str:
    """``weights_digest``, with a check in the same pass that all weights are finite. After divergence they are NaN.

    Args:
        source: Local folders, from ``fetch``.

    Raises:
        ModelError: a file is missing or corrupt, or a weight is NaN or infinite; names the file and the tensor.
    """
    return _digest(source, _check_finite)


def _digest(source: PolicySource, look: Callable[[Path, str, Tensor], None]) -> str:
    digest = hashlib.sha256()
    for folder, settings in ((source.model, SETTINGS), (source.adapter, ADAPTER_SETTINGS)):
        for part in [] if folder is None else _content(Path(folder), settings, look):
            digest.update(part)
    return digest.hexdigest()


def _check_finite(file: Path, name: str, value: Tensor) -> None:
    # One-byte data types have no infinity, or torch cannot test for it.
    if value.is_floating_point() and value.element_size() > 1 and not bool(value.isfinite().all()):
        raise ModelError(f"{file}: {name} has weights that are NaN or infinite; give an intact model")


def _content(folder: Path, settings: str, look: Callable[[Path, str, Tensor], None]) -> Iterator[bytes | memoryview]:
    """The bytes that a digest covers, in order. Calls ``look`` with the file, name and value of each tensor."""
    yield json.dumps(_settings(folder / settings), sort_keys=True).encode()
    where: dict[str, Path] = {}
    for file in weight_files(folder):
        with open_tensors(file) as tensors:
            where |= dict.fromkeys(tensors.keys(), file)
    for name in sorted(where):
        with open_tensors(where[name]) as tensors:
            value = tensors.get_tensor(name).contiguous()
        look(where[name], name, value)
        yield f"{name} {value.dtype} {tuple(value.shape)}\n".encode()
        yield value.reshape(-1).view(torch.uint8).numpy().data


def _fetch(name: str, revision: str | None, key: str) -> Path:
    folder = Path(name)
    if folder.is_dir():
        return folder.absolute()
    if folder.is_file():
        raise ModelError(f"{key}{name} is a file; {_SAFETENSORS}")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"{key}{name}: no such folder")
    why = silence()
    try:
        path = snapshot_download(
            name,
            revision=revision,
            allow_patterns=["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.py"],
            # The same weights in formats that are not loaded.
            ignore_patterns=["consolidated*", "original/*", "onnx/*"],
        )
    except Exception as error:
        if why is not None:
            raise ModelError(f"{key}{unasked(name, why)}") from None
        raise ModelError(f"{key}{name} is neither a folder nor a model on the hub: {brief(error)}") from None
    return Path(path)


def unasked(name: str, why: str) -> str:
    """The message about a model that is not here while the hub cannot be reached."""
    return (
        f"there is no folder {name} here, and the hub cannot be reached: {why}. After a first download, a model can be "
        "used offline"
    )


def _settings(path: Path) -> dict[str, Any]:
    settings = read_json(path)
    for key in _UNORDERED & settings.keys():
        if isinstance(settings[key], list):
            settings[key] = sorted(settings[key])
    # Dropout is always off here, so the rate changes nothing.
    return {key: value for key, value in settings.items() if key not in _VOLATILE and "drop" not in key}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        ModelError: the file is missing, is not JSON, or holds something other than an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {brief(error)}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not a JSON object")
    return value


def weight_files(folder: Path) -> list[Path]:
    """The weight files that transformers and PEFT would load from a folder.

    Raises:
        ModelError: there are none in safetensors, or the index is invalid.
    """
    for name in ("adapter_model.safetensors", "model.safetensors"):
        if (folder / name).is_file():
            return [folder / name]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        others = sorted(file.name for file in folder.iterdir() if file.suffix in _OTHER_WEIGHTS)
        found = f" ({', '.join(others[:3])})" if others else ""
        raise ModelError(
            f"{folder}: no weights in safetensors here; other formats{found} are not supported. Load the model with "
            "transformers and save it again (save_pretrained), which writes safetensors"
        )
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise ModelError(f"{index}: not a weight index")
    return [folder / str(name) for name in sorted(set(shards.values()))]


def open_tensors(file: Path) -> Any:
    """Open a safetensors file to read its tensors one by one.

    Raises:
        ModelError: the file is missing or corrupt.
    """
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file}: corrupt or truncated: {brief(error)}") from None
