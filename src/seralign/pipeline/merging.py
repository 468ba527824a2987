"""Writes a policy as a whole model with its card."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seralign.errors import StoreError
from seralign.policy.identity import PolicySource, weights_digest
from seralign.policy.load import DTYPES, load_tokenizer
from seralign.policy.merging import Merged, write_merged
from seralign.policy.saved import SavedPolicy
from seralign.policy.settings import model_settings
from seralign.runs.files import disk_errors, partial_folder
from seralign.runs.layout import RECORD

# Files that belong to a run or stage, not to the model.
LEFT_BEHIND = (RECORD, "README.md", "*.bin", "*.partial", ".*")


def write_whole(policy: SavedPolicy, folder: Path, card: Callable[[str], str]) -> Merged | None:
    """Write a policy as a whole model: weights, tokenizer, chat template, generation settings, card.

    The folder appears when everything is written and checked. Until then the work is in ``FOLDER.partial``, which is
    removed at the end.

    Args:
        policy: An adapter on its base, which is merged; or a whole model, which is copied.
        folder: Must not exist, or be empty.
        card: Makes the model card from the digest of the weights.

    Returns:
        The result of the merge; None if there was no adapter.

    Raises:
        StoreError: the folder is not empty, ``FOLDER.partial`` is not from a killed merge, or writing fails.
        BusyError: another process writes there.
        ModelError: the adapter cannot be merged, or the merged model differs from base plus adapter.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} already exists; give another folder (--out)")
    part = folder.absolute().with_name(folder.absolute().name + ".partial")
    with disk_errors(folder), partial_folder(part, "seralign merge"):
        try:
            found, work = None, part / "model"
            # A killed merge leaves an incomplete model.
            shutil.rmtree(work, ignore_errors=True)
            if policy.source.adapter is None:
                shutil.copytree(policy.source.model, work, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
                load_tokenizer(policy.source, policy.loading).save_pretrained(work)
            else:
                found = write_merged(policy.source, policy.loading, work, _base_dtype(policy), policy.name)
            (work / "README.md").write_text(card(weights_digest(PolicySource(str(work)))), encoding="utf-8")
            if folder.exists():
                folder.rmdir()
            work.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return found


def _base_dtype(policy: SavedPolicy) -> str:
    """The data type of the base."""
    stored: Any = model_settings(PolicySource(policy.source.model), policy.loading).dtype
    return next((name for name, dtype in DTYPES.items() if dtype == stored), "float32")
