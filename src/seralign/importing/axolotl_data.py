"""``datasets`` of axolotl: paths, splits, and the columns that each type of prompts has."""

from __future__ import annotations

from typing import Any

from seralign.config.values import typed
from seralign.errors import ConfigError
from seralign.importing.base import Sheet

# The part of a type behind the dot, to our columns: ours to the name in the file.
_COLUMNS: dict[str, dict[str, str]] = {
    "intel": {"prompt": "question"},
    "argilla": {"prompt": "instruction", "chosen": "chosen_response", "rejected": "rejected_response"},
    "icr": {"prompt": "input"},
    "prompt_pairs": {},
    "ultra": {},
    "argilla_chat": {},
    "binarized": {},
}
# Types whose prompts and responses are text, which axolotl puts into a chat template.
_TEXT = ("intel", "argilla", "icr", "prompt_pairs")
# Keys of a data set that decide nothing here.
_IDLE = {"ds_type", "message_property_mappings", "roles", "trust_remote_code", "message_field_role",
         "message_field_content"}  # fmt: skip
_READ = {"path", "split", "type", "data_files", "name", "revision", "field_messages", "field_chosen", "field_rejected"}


def carry_rows(sheet: Sheet, key: str, section: str) -> None:
    """Translate a list of data sets to one source of ours.

    Raises:
        ConfigError: The list is not one of sections with a path.
    """
    sets = sheet.read(key, list[dict[str, Any]], [])
    if not sets:
        return
    first, notes = sets[0], []
    if len(sets) > 1:
        notes.append(f"only the first of {len(sets)} data sets is in {section}.path: write all rows to files and "
                     "list these there")  # fmt: skip
    path = typed(str | None, first.get("path"), f"{key}[0].path")
    files = typed(str | list[str] | None, first.get("data_files"), f"{key}[0].data_files")
    if files is not None and (path in (None, "json", "csv", "parquet") or "ds_type" in first):
        path, files = files, None
    if path is None:
        raise ConfigError(f"{key}[0].path is missing")
    sheet.carry(f"{section}.path", path, key)
    for name in ("split", "name", "revision"):
        value = typed(str | None, first.get(name), f"{key}[0].{name}")
        if value is not None:
            sheet.carry(f"{section}.{name}", value, key)
    columns, left = _columns(first, f"{key}[0]", sheet, section)
    if columns:
        sheet.carry(f"{section}.columns", columns, key)
    left += ["data_files"] if files is not None else []
    left += sorted(name for name, value in first.items() if name not in _IDLE | _READ and value is not None)
    if left:
        notes.append(f"not carried: {', '.join(f'{key}[0].{name}' for name in left)}; check with seralign inspect")
    for note in notes:
        sheet.change(key, note)


def _columns(first: dict[str, Any], where: str, sheet: Sheet, section: str) -> tuple[dict[str, str], list[str]]:
    """Columns that have other names than ours, and parts of the type that have no counterpart."""
    kind = typed(str | dict[str, Any] | None, first.get("type"), f"{where}.type")
    if isinstance(kind, dict):
        names = {"prompt": "field_prompt", "chosen": "field_chosen", "rejected": "field_rejected",
                 "system": "field_system"}  # fmt: skip
        found = {ours: typed(str, kind[theirs], f"{where}.type.{theirs}") for ours, theirs in names.items()
                 if kind.get(theirs) is not None}  # fmt: skip
        left = [f"type.{name}" for name, value in kind.items() if name not in names.values() and value is not None]
        return {ours: theirs for ours, theirs in found.items() if ours != theirs}, left
    fields = {"prompt": "field_messages", "chosen": "field_chosen", "rejected": "field_rejected"}
    own = {ours: typed(str, first[theirs], f"{where}.{theirs}") for ours, theirs in fields.items()
           if first.get(theirs) is not None}  # fmt: skip
    if kind is None:
        return {ours: theirs for ours, theirs in own.items() if ours != theirs}, []
    template, _, part = kind.partition(".")
    if template == "chat_template":
        own = {"prompt": "messages"} | own
        return {ours: theirs for ours, theirs in own.items() if ours != theirs}, []
    if part not in _COLUMNS:
        return {ours: theirs for ours, theirs in own.items() if ours != theirs}, ["type"]
    if part in _TEXT and section == "data.pairs":
        sheet.fix("data.as_chat", True, f"{where}.type: {kind} puts text into a chat template")
    found = _COLUMNS[part] | own
    return {ours: theirs for ours, theirs in found.items() if ours != theirs}, []
