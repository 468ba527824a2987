"""Read YAML by the core schema of YAML 1.2. Values that YAML 1.1 reads differently are refused.

PyYAML parses the text. Its own resolvers follow YAML 1.1, where ``010`` is 8, ``1:30`` is 90, ``no`` is false and
``1e-6`` is text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from seralign.config.paths import expanded
from seralign.errors import ConfigError, one_line

MAX_BYTES = 1_000_000
# Number of values after expanding aliases: a few lines of nested aliases can expand to billions.
MAX_VALUES = 100_000

_TAG = "tag:yaml.org,2002:"
_RESOLVED = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "merge": r"<<",
}
_TAGS = {f"{_TAG}{name}" for name in (*_RESOLVED, "str", "seq", "map")}
# Unquoted values that YAML 1.1 and 1.2 read differently, and the advice for each.
_TWO_READINGS = {
    r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF": "write true or false, or put it in quotes if you mean text",
    r"[-+]?0[0-9_]+|0o[0-7]+|0b[01_]+": "write it as a plain decimal number, or put it in quotes if you mean text",
    r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?": "write a plain number, or put it in quotes if you mean text",
    r"[-+]?(?=[0-9._]*_)[0-9][0-9_]*(?:\.[0-9_]*)?": "write it without underscores, or in quotes if you mean text",
}


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a nested dict.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or has content that ``parse_yaml`` refuses; names file and
            key.
    """
    try:
        with Path(expanded(str(path))).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, ValueError):
        raise ConfigError(f"{path}: no such configuration file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes, which is too large for a configuration")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line} is not UTF-8 text (byte {data[error.start]:#04x})") from None
    try:
        values = parse_yaml(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        found = "an empty file" if values is None else type(values).__name__
        raise ConfigError(f"{path}: a configuration is a mapping of keys to values, found {found}")
    return values


def parse_yaml(text: str, key: str = "") -> Any:
    """Plain values of the YAML text of a key.

    Raises:
        ConfigError: the text is not YAML, or has a duplicate key, a tag, a value that YAML 1.1 and 1.2 read
            differently, or too many aliases or levels; names the key.
    """
    where = f"{key}: " if key else ""
    try:
        return _constructed(_Loader(text), key)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None or key else f" (line {mark.line + 1})"
        problem = error.problem or error.context or "it cannot be parsed"
        tab = "; indent with spaces" if "\\t" in problem else ""
        raise ConfigError(f"{where}not valid YAML: {problem}{line}{tab}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{where}not valid YAML: {one_line(error)}") from None
    except RecursionError:
        raise ConfigError(f"{where}nested too deeply for a configuration") from None


def _constructed(loader: _Loader, key: str) -> Any:
    node = loader.get_single_node()
    if node is None:
        return None
    _Checks(lines=not key).size(node, key, ())
    return loader.construct_document(node)


class _Loader(yaml.SafeLoader):
    pass


@dataclass(frozen=True)
class _Checks:
    """Refuses values that would silently be read as something else."""

    lines: bool
    sizes: dict[int, int] = field(default_factory=dict)

    def size(self, node: yaml.Node, key: str, above: tuple[int, ...]) -> int:
        """The number of values in a checked node, which is part of the nodes ``above``."""
        identity = id(node)
        if identity in above:
            raise ConfigError(f"{self.at(node, key)}: an alias refers to a value that contains it")
        if identity in self.sizes:
            return self.sizes[identity]
        if node.tag not in _TAGS:
            raise ConfigError(f"{self.at(node, key)}: the tag {node.tag} is not allowed in a configuration")
        above, size = (*above, identity), 1
        if isinstance(node, yaml.ScalarNode):
            self.scalar(node, key)
        elif isinstance(node, yaml.MappingNode):
            size += sum(self.size(part, below, above) for below, part in self.parts(node, key))
        else:
            size += sum(self.size(part, f"{key}[{place}]", above) for place, part in enumerate(node.value))
        if size > MAX_VALUES:
            raise ConfigError(f"{self.at(node, key)}: more than {MAX_VALUES:,} values, after expanding aliases")
        self.sizes[identity] = size
        return size

    def parts(self, node: yaml.MappingNode, key: str) -> Iterator[tuple[str, yaml.Node]]:
        """The values of a mapping, each with its whole key. Duplicate keys are refused."""
        seen: dict[str, int] = {}
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                raise ConfigError(f"{self.at(name, key)}: a key must be text")
            below = f"{key}.{name.value}" if key else name.value
            self.scalar(name, below)
            if name.value in seen:
                first = f", first on line {seen[name.value]}" if self.lines else ""
                raise ConfigError(f"{self.at(name, below)}: given twice{first}")
            seen[name.value] = name.start_mark.line + 1
            yield below, value

    def scalar(self, node: yaml.ScalarNode, key: str) -> None:
        """Refuse an unquoted value that YAML 1.1 and 1.2 read differently."""
        for pattern, advice in _TWO_READINGS.items() if node.style is None else ():
            if re.fullmatch(pattern, node.value):
                text = f"{node.value} has different meanings in YAML 1.1 and YAML 1.2"
                raise ConfigError(f"{self.at(node, key)}: {text}; {advice}")

    def at(self, node: yaml.Node, key: str) -> str:
        """The key, and the line of a file."""
        return (key or "the value") + (f" (line {node.start_mark.line + 1})" if self.lines else "")


def _number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    text = str(loader.construct_scalar(node))
    if node.tag == f"{_TAG}int":
        return int(text, 0)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.yaml_implicit_resolvers = {}
for _name, _pattern in _RESOLVED.items():
    # None: no index by the first letter of the value.
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"(?:{_pattern})$"), None)
for _name in ("int", "float"):
    _Loader.add_constructor(f"{_TAG}{_name}", _number)
