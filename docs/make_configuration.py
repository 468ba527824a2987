"""Write docs/configuration.md from the configuration's dataclasses and their docstrings.

python docs/make_configuration.py
"""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from types import UnionType
from typing import Any

import docstring_parser

from seralign.config import RunConfig
from seralign.config.fields import Key, keys_below, section_keys
from seralign.config.flags import about, described
from seralign.config.recipes import DEFAULT, RECIPES
from seralign.objectives import OBJECTIVES, ObjectiveSum
from seralign.studies.config import dotted

PAGE = Path(__file__).with_name("configuration.md")

HEAD = """# Configuration

A run is one YAML file. Every key has a default but `out`, and, without `world`, `policy.model` and `data.pairs.path`.
An unknown key is an error. Each key is also a flag with dots, and flags win over the file:

```bash
seralign train run.yaml --rounds 2 --objective.name ipo --policy.lora.r 8 --bootstrap null
```

From Python: `seralign.load_config("run.yaml", {"rounds": 2, "objective.name": "ipo"})`. A folder of another run is
refused when any key but `out` differs from what it began with. `seralign train --help` prints these keys too, and
`seralign train run.yaml --print_config` prints a configuration with all defaults written out.

Paths are relative to the folder that the command is given in.

## How YAML is read

By the core schema of YAML 1.2: `1e-6` is a number, `true` and `false` are the only truth values, and dates are text.
What YAML 1.1, which many tools still read, takes for something else is refused, with its key, rather than guessed:
`yes`, `no`, `on` and `off`; numbers with a leading zero (`010`), colons (`1:30`) or underscores (`1_000`), `0o17` and
`0b11`. Write the value that is meant, or put text in quotes. Refused are also a key that is given twice, tags (`!!set`,
`!mine`), files that are not UTF-8, files above 1 MB, and aliases that stand for more than 100,000 values; anchors,
aliases and merge keys (`<<`) are fine otherwise.

A value has the type of its key: `"3"` is text and no number, `true` is no number, and text that looks like a number (a
commit such as `12345678`) needs quotes. Numbers are finite; whole numbers are at most 2,147,483,647, others between
1e-30 and 1e30 in size, or 0. A flag's value is read in the same way, but where the key takes text, which is taken as it
stands: `--policy.revision 010` needs no quotes beyond the shell's.

## Recipes

`recipe` is a key, or a flag, that stands for several others: below are the recipes, and keys that are given win over
theirs. In what `--print_config` writes every key is given. `recipe: sera` is the paper's.

RECIPES

This page is made by `python docs/make_configuration.py` from `src/seralign/config`.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page as Markdown."""
    places: dict[type, list[str]] = {}
    _find(RunConfig, "", places)
    return "\n".join(
        [HEAD.replace("RECIPES", _recipes()), *(_section(kind, prefixes) for kind, prefixes in places.items())]
    )


def _recipes() -> str:
    """The recipes side by side."""
    keys = list(dict.fromkeys(key for values in RECIPES.values() for key in dotted(values)))
    rows = [[f"`{key}`", *(f"`{dotted(values)[key]}`" for values in RECIPES.values())] for key in keys]
    names = [f"`{name}`" + (", the default" if name == DEFAULT else "") for name in RECIPES]
    lines = [["key", *names], ["---"] * (len(names) + 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _find(kind: type, prefix: str, places: dict[type, list[str]]) -> None:
    """Every dataclass of the configuration with the keys that it stands under, in order of appearance."""
    places.setdefault(kind, []).append(prefix)
    if kind is ObjectiveSum:
        return
    for name, hint in keys_below(kind).items():
        part = _dataclass(hint)
        if part is not None:
            _find(part, f"{prefix}{name}.", places)


def _section(kind: type, prefixes: list[str]) -> str:
    if kind is ObjectiveSum:
        return _objectives()
    docs = described(kind)
    title = ", ".join(f"`{prefix[:-1]}`" for prefix in prefixes if prefix) or "The run"
    intro = " ".join(filter(None, (docs.short_description, docs.long_description)))
    rows = [(f"`{key.name}`", _type(key.hint), _default(key), _text(about(key))) for key in section_keys(kind)]
    lines = ["| key | type | default | what it is |", "| --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(row).rstrip() + " |" for row in rows]
    return "\n".join([f"## {title}", "", _text(intro), "", *lines, ""])


def _objectives() -> str:
    """The section ``objective``: every objective with its settings."""
    rows = [["`name`", "", "`dpo`", f"{', '.join(f'`{name}`' for name in OBJECTIVES)}, or `module:Class` of your own"]]
    rows += [["`weight`", "", "`1.0`", "what the loss counts where a list of objectives is added"]]
    for name, objective in OBJECTIVES.items():
        docs = docstring_parser.parse(objective.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)
        about = {param.arg_name: param.description or "" for param in docs.params}
        rows += [
            [f"`{field.name}`", f"`{name}`", f"`{field.default}`", _text(about.get(field.name, ""))]
            for field in dataclasses.fields(objective)  # pyright: ignore
        ]
    lines = ["| key | of | default | what it is |", "| --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    about = (
        "The loss of the rounds. Each objective has settings of its own. A list of objectives is a weighted sum: the "
        "loss of a step is the sum of its terms, each averaged over its own unit (pairs, or tokens for `sft`). The "
        "implicit reward is that of the first that compares responses:\n\n"
        "```yaml\nobjective:\n  - {name: dpo, beta: 0.1}\n  - {name: sft, weight: 0.2}\n```"
    )
    return "\n".join(["## `objective`", "", about, "", *lines, ""])


def _dataclass(hint: Any) -> type | None:
    parts = (hint, *typing.get_args(hint))
    return next((part for part in parts if isinstance(part, type) and dataclasses.is_dataclass(part)), None)


def _type(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, UnionType):
        return " or ".join(_type(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(hint))
    if hint is type(None):
        return "null"
    if dataclasses.is_dataclass(hint):
        return "keys below it"
    if typing.get_origin(hint) is list:
        return f"list of {_type(typing.get_args(hint)[0])}"
    if typing.get_origin(hint) is dict:
        return "mapping"
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}[hint]


def _default(key: Key) -> str:
    part = _dataclass(key.hint)
    if key.default is dataclasses.MISSING:
        return "must be given"
    if key.default is None or isinstance(key.default, bool):
        return "null" if key.default is None else f"`{str(key.default).lower()}`"
    if part is None:
        return f"`{key.default}`"
    if part is ObjectiveSum:
        return f"`name: {key.default.name}`"
    # What stands here differently from the section's own defaults.
    own = {each.name: each.default for each in section_keys(part)}
    given = {each.name: each.default for each in section_keys(part, key.default)}
    return ", ".join(f"`{name}: {new}`" for name, new in given.items() if new != own[name]) or "its own defaults"


def _text(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    main()
