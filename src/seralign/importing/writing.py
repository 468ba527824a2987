"""Writes a translated configuration as YAML with comments, and what is to be told about it."""

from __future__ import annotations

from typing import Any

import yaml

from seralign.config.fields import all_keys
from seralign.config.run import RunConfig
from seralign.importing.base import Fate, Imported, Setting, Value
from seralign.terminal import printable_line

_WIDTH = 118


def to_text(imported: Imported, source: str) -> str:
    """The configuration as YAML, in the order of the keys of a run; comments say where each value is from.

    Args:
        imported: The configuration.
        source: Name of the file that it is from.
    """
    lines = [f"# Translated from {printable_line(source)} ({imported.tool}) by seralign import-config.", ""]
    order = {key: place for place, key in enumerate(all_keys(RunConfig))}
    settings = sorted(imported.settings, key=lambda setting: order.get(_known(setting.key, order), len(order)))
    open_sections: list[str] = []
    for setting in settings:
        *sections, name = setting.key.split(".")
        shared = _shared(open_sections, sections)
        for depth in range(shared, len(sections)):
            lines.append(f"{'  ' * depth}{sections[depth]}:")
        open_sections = sections
        lines += _lines(setting, "  " * len(sections), name)
    left = [outcome for outcome in imported.outcomes if outcome.fate == "left out"]
    if left:
        lines += ["", "# Not carried:", *(f"# - {outcome.key}: {printable_line(outcome.text)}" for outcome in left)]
    return "\n".join(lines) + "\n"


def report(imported: Imported) -> list[str]:
    """Lines about the keys that were left out, that have another meaning, and that have no effect, in this order."""
    fates: tuple[Fate, ...] = ("left out", "changed", "no effect")
    lines = []
    for fate in fates:
        for outcome in imported.outcomes:
            if outcome.fate == fate:
                ours = f" -> {', '.join(outcome.ours)}" if outcome.ours else ""
                lines.append(printable_line(f"{fate}: {outcome.key}{ours}: {outcome.text}"))
    carried = sum(outcome.fate == "carried" for outcome in imported.outcomes)
    lines.append(f"carried: {carried} other key{'s' * (carried != 1)} with the same meaning")
    return lines


def _known(key: str, order: dict[str, int]) -> str:
    while key not in order and "." in key:
        key = key.rpartition(".")[0]
    return key


def _shared(before: list[str], now: list[str]) -> int:
    count = 0
    while count < min(len(before), len(now)) and before[count] == now[count]:
        count += 1
    return count


def _lines(setting: Setting, indent: str, name: str) -> list[str]:
    """The line of a setting, with its comment behind it or, where that is too long, above it."""
    text, comment = f"{indent}{name}: {_flow(setting.value)}", f"# {printable_line(setting.comment)}"
    if len(text) + len(comment) + 2 <= _WIDTH and "\n" not in text:
        return [f"{text}  {comment}"]
    return [f"{indent}{comment}", text]


def _flow(value: Value) -> str:
    """A value on one line."""
    dumped: Any = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return dumped.removesuffix("\n").removesuffix("\n...")
