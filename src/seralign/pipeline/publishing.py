"""Publishes a policy: prepares a folder without paths of this machine, and uploads it to the hub."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from seralign.errors import ConfigError, ModelError, StoreError, brief
from seralign.hub import silence
from seralign.pipeline.merging import LEFT_BEHIND, write_whole
from seralign.pipeline.result import model_card
from seralign.policy.identity import hub_name, portable, read_json, weights_digest
from seralign.policy.merging import Merged
from seralign.policy.saved import SavedPolicy, saved_digest
from seralign.runs.figures import BaseFigures, PoliciesFigures, ResultFigures
from seralign.runs.files import write_json
from seralign.runs.layout import BASE, POLICIES, RESULT
from seralign.tables import code

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")
_ADAPTER = "adapter_config.json"
# Keys under which transformers, PEFT and tokenizers store the folder that they loaded from.
_PATHS = ("_name_or_path", "name_or_path", "base_model_name_or_path")


def merge_policy(policy: SavedPolicy, folder: Path) -> Merged | None:
    """Write a policy as a whole model with its card; see ``seralign.pipeline.merging.write_whole``."""
    check_weights(policy)
    base = base_of(policy, is_adapter=False)
    merged = write_whole(policy, folder, partial(card_of, policy, is_adapter=False, base_model=base))
    _clean(folder, None)
    return merged


def publishable(policy: SavedPolicy, folder: Path, *, merged: bool, base_model: str | None) -> Merged | None:
    """Write the folder to publish: the saved policy and its card, without paths of this machine.

    Args:
        policy: A policy of a run.
        folder: Must not exist, or be empty.
        merged: Merge an adapter into its base.
        base_model: Hub name of the model that the run started from, if the run was given a folder.

    Raises:
        ConfigError: the base of an adapter is not on the hub.
        StoreError: the weights have changed since they were written, or the folder is not empty.
        ModelError: the adapter cannot be merged.
    """
    is_adapter = policy.source.adapter is not None and not merged
    base = base_model or base_of(policy, is_adapter=is_adapter)
    if is_adapter and base is None:
        made = ", which the run made by merging policy.adapter into policy.model" if _has_merged_base(policy) else ""
        raise ConfigError(
            f"{policy.name} is an adapter on {policy.source.model}{made}, a folder that others do not have: publish "
            "the whole model (--merged), or give the model's name on the hub (--base_model OWNER/NAME)"
        )
    check_weights(policy)
    card = partial(card_of, policy, is_adapter=is_adapter, base_model=base)
    found = None
    if is_adapter:
        if folder.exists() and any(folder.iterdir()):
            raise StoreError(f"{folder} already exists; give another folder (--out)")
        shutil.copytree(policy.folder, folder, ignore=shutil.ignore_patterns(*LEFT_BEHIND), dirs_exist_ok=True)
        (folder / "README.md").write_text(card(weights_digest(policy.source)), encoding="utf-8")
    else:
        found = write_whole(policy, folder, card)
    _clean(folder, base)
    _check_paths(policy, folder)
    return found


def upload(folder: Path, repo: str, *, private: bool, message: str) -> str:
    """Upload a folder to a model repository on the hub, which is created if it does not exist.

    The token comes from the environment or from ``hf auth login``.

    Returns:
        The repository's URL.

    Raises:
        ConfigError: no token; or the repository is public and a private one was asked for.
        ModelError: the hub cannot be reached, or refuses the upload.
    """
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise ConfigError("no token for the hub: log in (hf auth login), or set HF_TOKEN")
    if (why := silence()) is not None:
        raise ModelError(f"{repo}: the hub cannot be reached: {why}")
    api = HfApi()
    try:
        url = api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.repo_info(repo).private:
            raise ConfigError(f"{repo} already exists and is public; make it private first, or leave --private out")
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    except ConfigError:
        raise
    except Exception as error:
        raise ModelError(f"{repo}: the hub cannot be reached or refuses the upload: {brief(error)}") from None
    return str(url)


def check_weights(policy: SavedPolicy) -> None:
    """Check that a policy's weights are those that its run recorded.

    Raises:
        StoreError: they, or the weights of the adapter's base, have changed.
    """
    if policy.run is None or policy.stage is None:
        return
    if weights_digest(policy.source) != saved_digest(policy.run, policy.stage):
        raise StoreError(
            f"{policy.folder}: the weights (or those of the adapter's base, {policy.source.model}) are not the ones "
            "that the run recorded; restore the original files"
        )


def base_of(policy: SavedPolicy, *, is_adapter: bool) -> str | None:
    """The hub name of the model that a policy was made from; None if that was a folder.

    A base that the run itself merged is not on the hub, so an adapter on it has no base there.
    """
    if policy.run is not None:
        if _has_merged_base(policy) and not is_adapter:
            return policy.run.figures(BASE, BaseFigures).hub
        return policy.run.figures(POLICIES, PoliciesFigures).base.hub
    if policy.source.adapter is None:
        return None
    return hub_name(read_json(policy.folder / _ADAPTER).get("base_model_name_or_path"))


def _has_merged_base(policy: SavedPolicy) -> bool:
    return policy.run is not None and policy.run.exists(BASE)


def card_of(policy: SavedPolicy, digest: str, *, is_adapter: bool, base_model: str | None) -> str:
    """The model card of a policy, with the digest of its weights."""
    if policy.run is None or policy.config is None:
        return _plain_card(policy, digest, base_model)
    if policy.stage == RESULT:
        figures = replace(policy.run.figures(RESULT, ResultFigures), digest=digest)
    else:
        figures = ResultFigures(policy.name.partition(" of ")[0], digest, "", {}, "", None, None)
    return model_card(policy.run, policy.config, figures, is_adapter=is_adapter, base_model=base_model)


def _plain_card(policy: SavedPolicy, digest: str, base_model: str | None) -> str:
    head: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if base_model is not None:
        head["base_model"] = base_model
    own, base = code(portable(str(policy.folder))), code(base_model or portable(policy.source.model))
    what = f"The adapter {own} merged into {base}" if policy.source.adapter else f"A copy of {own}"
    header = f"---\n{yaml.safe_dump(head, sort_keys=False)}---"
    return f"{header}\n# {own}\n\n{what} by `seralign merge`.\n\n- **Weights**: sha256 `{digest}`\n"


def _clean(folder: Path, base: str | None) -> None:
    """Remove local folders from the settings; an adapter's base gets its hub name."""
    for file in sorted(folder.glob("*.json")):
        if file.stat().st_size > 1 << 20:
            continue
        values = read_json(file)
        kept = {
            key: value
            for key, value in values.items()
            if key not in _PATHS or not isinstance(value, str) or hub_name(value) is not None
        }
        if file.name == _ADAPTER:
            kept["base_model_name_or_path"] = base
        if kept != values:
            write_json(file, kept)


def _check_paths(policy: SavedPolicy, folder: Path) -> None:
    """Check that no text file to publish contains a folder of this machine.

    Raises:
        StoreError: names the file.
    """
    places = [policy.folder, Path(policy.source.model), *([policy.run.root] if policy.run is not None else [])]
    paths = {str(path) for place in places for path in (place.absolute(), place.resolve()) if len(path.parts) > 2}
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".json", ".md", ".jinja") and file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")
            found = next((path for path in sorted(paths) if path in text), None)
            if found is not None:
                raise StoreError(f"{file.name} contains a path of this machine, {found}{os.sep}; it is not published")
