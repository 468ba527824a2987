"""Data sets of LLaMA-Factory: names in ``dataset_info.json``, with files and columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seralign.errors import ConfigError
from seralign.importing.base import Sheet

_INFO = "dataset_info.json"
# Columns of each format: ours, the key below columns, and its default.
_COLUMNS = {
    "alpaca": (("prompt", "prompt", "instruction"), ("chosen", "chosen", None), ("rejected", "rejected", None),
               ("system", "system", None), ("history", "history", None), ("label", "kto_tag", None)),
    "sharegpt": (("prompt", "messages", "conversations"), ("chosen", "chosen", None), ("rejected", "rejected", None),
                 ("system", "system", None), ("tools", "tools", None), ("label", "kto_tag", None)),
}  # fmt: skip
_READ = {"file_name", "hf_hub_url", "subset", "split", "formatting", "ranking", "columns", "num_samples", "tags"}


def carry_rows(sheet: Sheet, key: str, section: str) -> None:
    """Translate the name of a data set to a source of ours.

    Raises:
        ConfigError: ``dataset_info.json`` cannot be read, or lacks the data set.
    """
    given = sheet.read(key, str | list[str])
    folder = sheet.read("dataset_dir", str, "data")
    if given is None:
        return
    names = [name.strip() for name in given.split(",")] if isinstance(given, str) else given
    info = Path(folder) / _INFO
    if not info.is_file():
        note = f"{info} is not here: set {section}.path to the file, and {section}.columns if columns have other names"
        sheet.carry(f"{section}.path", names[0] if len(names) == 1 else names, key, note=note)
        sheet.idle("dataset_dir", f"it has no {_INFO} here")
        return
    entries = [_entry(info, name, key) for name in names]
    files = [str(Path(folder) / entry["file_name"]) for entry in entries if isinstance(entry.get("file_name"), str)]
    note = ""
    if len(files) == len(entries):
        sheet.carry(f"{section}.path", files[0] if len(files) == 1 else files, key)
    elif isinstance(hub := entries[0].get("hf_hub_url"), str):
        sheet.carry(f"{section}.path", hub, key)
        for ours, theirs in (("name", "subset"), ("split", "split")):
            if isinstance(value := entries[0].get(theirs), str):
                sheet.carry(f"{section}.{ours}", value, key)
        note = "" if len(names) == 1 else f"only the first of {len(names)} data sets; write the rows of all to files"
    else:
        raise ConfigError(f"{key}: {names[0]} has neither file_name nor hf_hub_url in {info}")
    columns, left = _columns(entries[0])
    if columns:
        sheet.carry(f"{section}.columns", columns, key)
    if any(_columns(entry)[0] != columns for entry in entries[1:] if len(files) == len(entries)):
        note = f"{section}.columns are those of {names[0]}; the others have other columns, so convert them first"
    if left:
        note = f"{note}; " * bool(note) + f"not carried: {', '.join(left)} in {info}; check with seralign inspect"
    sheet.change(key, note) if note else None
    sheet.idle("dataset_dir", f"it is in {section}.path")


def _entry(info: Path, name: str, key: str) -> dict[str, Any]:
    try:
        entries = json.loads(info.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{info}: cannot be read as JSON: {error}") from None
    entry = entries.get(name) if isinstance(entries, dict) else None
    if not isinstance(entry, dict):
        raise ConfigError(f"{key}: there is no data set {name!r} in {info}")
    return entry


def _columns(entry: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Columns with other names than ours, and what has no counterpart."""
    columns = entry.get("columns")
    given: dict[str, Any] = columns if isinstance(columns, dict) else {}
    formats = _COLUMNS.get(str(entry.get("formatting", "alpaca")), _COLUMNS["alpaca"])
    found = {}
    for ours, theirs, default in formats:
        name = given.get(theirs, default)
        if isinstance(name, str) and name != ours and not (ours == "prompt" and name in ("conversations", "messages")):
            found[ours] = name
    left = [f"columns.{name}" for name in given if name not in {theirs for _, theirs, _ in formats}]
    return found, left + [name for name in entry if name not in _READ and name != "columns"]
