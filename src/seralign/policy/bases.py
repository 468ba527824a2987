"""Compares the model that an adapter was trained on, according to its settings, with the model that it is used on."""

from __future__ import annotations

from pathlib import Path

from seralign.errors import ModelError
from seralign.policy.identity import ADAPTER_SETTINGS, SETTINGS, PolicySource, read_json, weights_digest


def other_base(source: PolicySource, named: str) -> str | None:
    """The model that an adapter names as its base, if it is another model than the one that it is used on.

    An adapter fits every model of the same shapes, but is of no use on another model. Local folders are compared by
    their weights, other names by their last part.

    Args:
        source: Local folders, from ``fetch``.
        named: The model as the user named it.

    Raises:
        ModelError: the weights of ``source`` cannot be read.
    """
    if source.adapter is None:
        return None
    base = read_json(Path(source.adapter) / ADAPTER_SETTINGS).get("base_model_name_or_path")
    if not isinstance(base, str) or not base or base in (named, source.model):
        return None
    for folder in (Path(base), Path(source.adapter) / base):
        if (folder / SETTINGS).is_file():
            return None if _same(folder, Path(source.model)) else base
    return None if _last_part(base) == _last_part(named) else base


def on_its_base(folder: Path) -> PolicySource:
    """An adapter with the base that its settings name.

    Raises:
        ModelError: its settings cannot be read, or name no base.
    """
    settings = read_json(folder / ADAPTER_SETTINGS)
    base = settings.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(
            f"{folder / ADAPTER_SETTINGS}: has no base_model_name_or_path, the model that the adapter is for"
        )
    beside = folder / base  # in a run, the base is given relative to the result
    return PolicySource(str(beside.resolve() if beside.is_dir() else base), settings.get("revision"), str(folder))


def _same(folder: Path, model: Path) -> bool:
    if folder.samefile(model):
        return True
    own = weights_digest(PolicySource(str(model)))
    try:
        return weights_digest(PolicySource(str(folder))) == own
    except ModelError:
        return False


def _last_part(name: str) -> str:
    """The model part of ``owner/model``, of a folder, or of a folder in the hub's cache."""
    parts = Path(name.casefold()).parts
    if len(parts) > 2 and parts[-2] == "snapshots":
        return parts[-3].rpartition("--")[2]
    return parts[-1] if parts else ""
