"""Configurations of other tools, translated. To add a tool, write a module with ``translate`` and a line in ``TOOLS``.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seralign.config import load_config
from seralign.config.yaml12 import read_yaml
from seralign.errors import ConfigError
from seralign.importing import axolotl, llamafactory, trl, trl_others
from seralign.importing.base import Imported, Options, Outcome, Setting, Value
from seralign.importing.writing import report, to_text

__all__ = ["TOOLS", "Imported", "Options", "Outcome", "Setting", "Value", "import_config", "report", "to_text"]


@dataclass(frozen=True)
class Tool:
    """A tool: the keys that only its configurations have, and the translation.

    A trainer of a tool shares ``own_keys`` with the tool, and is meant if the file has one of ``trainer_keys``, or one
    of ``losses`` as its ``loss_type``.
    """

    own_keys: frozenset[str]
    translate: Callable[[dict[str, Any], Options], Imported]
    trainer_keys: frozenset[str] = frozenset()
    losses: frozenset[str] = frozenset()


TOOLS: dict[str, Tool] = {
    "trl": Tool(trl.OWN_KEYS, trl.translate),
    "trl-cpo": Tool(trl.OWN_KEYS, trl_others.translate_cpo, trl_others.CPO_KEYS, trl_others.CPO_LOSSES),
    "trl-orpo": Tool(trl.OWN_KEYS, trl_others.translate_orpo),
    "trl-kto": Tool(trl.OWN_KEYS, trl_others.translate_kto, trl_others.KTO_KEYS, trl_others.KTO_LOSSES),
    "axolotl": Tool(axolotl.OWN_KEYS, axolotl.translate),
    "llamafactory": Tool(llamafactory.OWN_KEYS, llamafactory.translate),
}


def import_config(
    path: str | Path, tool: str | None = None, options: Options | None = None, overrides: dict[str, Value] | None = None
) -> Imported:
    """Translate a configuration of another tool.

    Args:
        path: Its YAML file.
        tool: One of ``TOOLS``; by default the tool is recognised by the keys.
        options: What the file does not say.
        overrides: Keys of ours with dots and their values, which are set in place of those of the file.

    Raises:
        ConfigError: The file cannot be read, its tool is not recognised, a key is unknown, a value has the wrong type
            or no counterpart, or the translation is not a valid configuration; names the file and the key.
    """
    values = read_yaml(Path(path))
    try:
        imported = TOOLS[tool or _recognised(values)].translate(values, options or Options())
        imported = _overridden(imported, overrides or {})
        load_config(None, {setting.key: setting.value for setting in imported.settings})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return imported


def _recognised(values: dict[str, Any]) -> str:
    counts = {name: len(tool.own_keys & values.keys()) for name, tool in TOOLS.items()}
    best = max(counts.values())
    found = [name for name, count in counts.items() if count == best]
    tools = {TOOLS[name].own_keys for name in found}
    if best == 0 or len(tools) > 1:
        raise ConfigError(f"it is not clear which tool this is for; say so with --from {' or '.join(TOOLS)}")
    loss = values.get("loss_type")
    trainers = [
        name
        for name in found
        if TOOLS[name].trainer_keys & values.keys() or (isinstance(loss, str) and loss in TOOLS[name].losses)
    ]
    if len(trainers) > 1:
        raise ConfigError(f"it has keys of several trainers; say which one with --from {' or '.join(trainers)}")
    return (trainers or found)[0]


def _overridden(imported: Imported, overrides: dict[str, Value]) -> Imported:
    """Settings with values that the user gave; a section in place of its keys, and keys in place of their section."""
    kept = [one for one in imported.settings if not any(_is_within(one.key, key) for key in overrides)]
    given = [Setting(key, value, "given") for key, value in overrides.items()]
    return Imported(imported.tool, (*kept, *given), imported.outcomes)


def _is_within(key: str, other: str) -> bool:
    return key == other or key.startswith(f"{other}.")
