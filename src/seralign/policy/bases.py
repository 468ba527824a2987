"""Which model an adapter was trained on, as far as its settings say, and whether it is the one that it is put on."""

from __future__ import annotations

from pathlib import Path

from seralign.errors import ModelError
from seralign.policy.identity import ADAPTER_SETTINGS, SETTINGS, PolicySource, read_json, weights_digest


def other_base(source: PolicySource, named: str) -> str | None:
    """The model that an adapter names as its own, where that is another one than the model that it is put on.

    An adapter fits every model of the same shapes, and does to another one what nobody trained. Folders that are here
    are compared by their weights, other names by their last part.

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


def _same(folder: Path, model: Path) -> bool:
    if folder.samefile(model):
        return True
    own = weights_digest(PolicySource(str(model)))
    try:
        return weights_digest(PolicySource(str(folder))) == own
    except ModelError:
        return False


def _last_part(name: str) -> str:
    """``model`` of ``owner/model``, of a folder, and of the folder that the hub's client keeps a model in."""
    parts = Path(name.casefold()).parts
    if len(parts) > 2 and parts[-2] == "snapshots":
        return parts[-3].rpartition("--")[2]
    return parts[-1] if parts else ""
