"""Configuration keys on a command line: ``--training.learning_rate 1e-6`` or ``--training.learning_rate=1e-6``."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from typing import Any, NoReturn

import docstring_parser

from seralign.config.fields import Key, alternatives, dataclass_of, keys_below, section_keys
from seralign.config.hints import type_at, unknown_key
from seralign.config.recipes import DEFAULT, RECIPES
from seralign.config.run import RunConfig
from seralign.config.yaml12 import parse_yaml
from seralign.errors import ConfigError
from seralign.objectives import OBJECTIVES, ObjectiveSum

CONFIG, RECIPE, PRINT = "config", "recipe", "print_config"


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ``ConfigError``."""

    def __init__(self, prog: str, **kwargs: Any) -> None:
        super().__init__(prog, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {self.prog} --help lists the options")


def config_parser(prog: str, **kwargs: Any) -> Parser:
    """A parser with every key of a run as a dotted flag (``--policy.model``, ``--objective.name`` ...).

    A command adds its own arguments to it; ``seralign.config.parse_config`` parses them.
    """
    parser = brief_parser(prog, **kwargs)
    parser.add_argument(
        f"--{CONFIG}", metavar="FILE", default=argparse.SUPPRESS, help="YAML file with keys; flags override it"
    )
    recipes = f"a named set of defaults: {', '.join(RECIPES)} (default: {DEFAULT}); sera is the method of the paper"
    parser.add_argument(f"--{RECIPE}", metavar="NAME", default=argparse.SUPPRESS, help=recipes)
    _add_section(parser, RunConfig, "")
    return parser


def brief_parser(prog: str, **kwargs: Any) -> Parser:
    """A parser for ``seralign.config.parse_config`` that accepts every key, but does not list them in its help."""
    parser = Parser(prog, formatter_class=_Help, **kwargs)
    parser.add_argument(f"--{PRINT}", action="store_true", help="print all keys with their values, and exit")
    return parser


def read_flags(arguments: list[str]) -> tuple[list[tuple[str, Any]], list[str]]:
    """Split a command line into keys with values, in their order, and other arguments.

    Raises:
        ConfigError: a value is missing or cannot be read; names the key.
    """
    found: list[tuple[str, Any]] = []
    others: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        key, equals, text = argument.removeprefix("--").partition("=")
        hint = str if key in (CONFIG, RECIPE) else type_at(key)
        if not argument.startswith("--") or hint is None:
            others.append(argument)
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"{key}: the value is missing; give it as --{key} VALUE")
            text = rest.pop(0)
        found.append((key, _value(hint, text, key)))
    return found, others


def unknown_argument(argument: str, parser: argparse.ArgumentParser) -> str:
    """The message about an unknown argument."""
    if not argument.startswith("--"):
        return f"{argument}: not an option; {parser.prog} --help lists them"
    own = [option[2:] for action in parser._actions for option in action.option_strings if "." not in option]
    return unknown_key(argument[2:].partition("=")[0], own)


def _value(hint: Any, text: str, key: str) -> Any:
    kinds = alternatives(hint)
    verbatim = any(kind is str or typing.get_origin(kind) is typing.Literal for kind in kinds)
    if verbatim and text == "null" and type(None) in kinds:
        return None
    # The name of a file may begin with a bracket, too.
    in_brackets = text.lstrip().startswith("[") and text.rstrip().endswith("]")
    of_list = any(typing.get_origin(kind) is list for kind in kinds) and in_brackets
    return text if verbatim and not of_list else parse_yaml(text, key)


class _Help(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=110)


def _add_section(parser: argparse.ArgumentParser, kind: type, prefix: str) -> None:
    if kind is ObjectiveSum:
        _add_objectives(parser, prefix)
        return
    group = parser.add_argument_group(prefix.rstrip(".") or "run", _text(described(kind).short_description or ""))
    keys = list(section_keys(kind))
    for key in keys:
        has_default = key.default is not dataclasses.MISSING and dataclass_of(key.hint) is None
        default = f" (default: {_default(key.default)})" if has_default else ""
        group.add_argument(
            f"--{prefix}{key.name}", metavar=_metavar(key.hint), default=argparse.SUPPRESS,
            help=_text(about(key)) + default.replace("%", "%%"),
        )  # fmt: skip
    for key in keys:
        part = dataclass_of(key.hint)
        if part is not None:
            _add_section(parser, part, f"{prefix}{key.name}.")


def described(kind: type) -> docstring_parser.Docstring:
    """The parsed docstring of a dataclass."""
    return docstring_parser.parse(kind.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)


def about(key: Key) -> str:
    """The description of a key, from the docstring of its dataclass."""
    return next((param.description or "" for param in described(key.owner).params if param.arg_name == key.name), "")


def _add_objectives(parser: argparse.ArgumentParser, prefix: str) -> None:
    about = "The loss of the rounds; a file may have a list of objectives with weights, which are added."
    group = parser.add_argument_group(prefix.rstrip("."), about)
    names = ", ".join(OBJECTIVES)
    helps = {
        "name": f"{names}, or module:Class of your own (default: dpo)",
        "weight": "what the loss counts in a sum (default: 1.0)",
    }
    for key, hint in keys_below(ObjectiveSum).items():
        owners = [
            f"{name} {_default(field.default)}"
            for name, objective in OBJECTIVES.items()
            for field in dataclasses.fields(objective)  # pyright: ignore
            if field.name == key
        ]
        group.add_argument(
            f"--{prefix}{key}", metavar=_metavar(hint), default=argparse.SUPPRESS,
            help=helps.get(key, f"setting of these objectives, with defaults: {', '.join(owners)}"),
        )  # fmt: skip


def _metavar(hint: Any) -> str:
    kinds = [kind for kind in alternatives(hint) if kind is not type(None)]
    if typing.get_origin(kinds[0]) is typing.Literal:
        return "{" + ",".join(typing.get_args(kinds[0])) + "}"
    names = {str: "TEXT", int: "N", float: "X", bool: "true|false"}
    return names.get(kinds[0], "YAML")


def _default(value: Any) -> str:
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def _text(text: str) -> str:
    return " ".join(text.split()).replace("``", "").replace("%", "%%")
