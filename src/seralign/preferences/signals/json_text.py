"""The response is JSON, and matches a schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from seralign.checks import positive
from seralign.config.paths import expanded
from seralign.errors import ConfigError
from seralign.preferences.extras import needs
from seralign.preferences.signals.base import Asked
from seralign.preferences.signals.fenced import fenced


@dataclass(frozen=True)
class Json:
    """Passes if the response is JSON, as RFC 8259 has it: no NaN, no comments, nothing after its end.

    Args:
        schema: A JSON schema that it has to match: a mapping, or the path of a JSON file.
        fence: Read the last fenced block of Markdown, if there is one, in place of the whole response.
        seconds: Time for one response.
    """

    schema: str | dict[str, Any] | None = None
    fence: bool = False
    seconds: float = 5.0
    temperature: ClassVar[None] = None

    def __post_init__(self) -> None:
        positive(self.seconds, "seconds")
        if self.schema is not None:
            _validator(self._schema())

    @property
    def identity(self) -> str | None:
        """The schema."""
        return None if self.schema is None else self._schema()

    def check(self, asked: Asked) -> float:
        """1 if it parses and matches the schema."""
        try:
            value = json.loads(fenced(asked.response) if self.fence else asked.response, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return 0.0
        return 1.0 if self.schema is None else float(_is_valid(self._schema(), value))

    def _schema(self) -> str:
        if isinstance(self.schema, dict):
            return json.dumps(self.schema)
        return _read(str(self.schema))


def _is_valid(schema: str, value: Any) -> bool:
    from referencing.exceptions import Unresolvable

    try:
        return _validator(schema).is_valid(value)
    except Unresolvable as error:
        raise ConfigError(f"schema: {error} is not in the schema, and nothing is loaded from elsewhere") from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


@cache
def _read(path: str) -> str:
    try:
        return Path(expanded(path)).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"schema: {path} cannot be read: {error}") from None


@cache
def _validator(schema: str) -> Any:
    """A validator that loads no schema from elsewhere."""
    with needs("jsonschema", "schema"):
        import referencing
        from jsonschema import Draft202012Validator, SchemaError, validators
    try:
        value = json.loads(schema)
        kind = validators.validator_for(value, default=Draft202012Validator)
        kind.check_schema(value)
    except (ValueError, SchemaError) as error:
        message = error.message if isinstance(error, SchemaError) else error
        raise ConfigError(f"schema is not a JSON schema: {message}") from None
    return kind(value, registry=referencing.Registry())
