"""A configuration of another tool while it is translated: every key of it gets exactly one outcome."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

from seralign.config.hints import unknown_name
from seralign.config.values import typed
from seralign.errors import ConfigError

Fate = Literal["carried", "changed", "left out", "no effect"]

# Plain values, as YAML has them.
Value = str | int | float | bool | None | list[Any] | dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What the file of another tool does not say.

    Args:
        devices: Number of processes that the other tool was started with.
        pairs: Number of training pairs, to convert steps and epochs to each other.
    """

    devices: int = 1
    pairs: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a key of the other tool.

    Args:
        key: The key.
        fate: ``carried`` with the same meaning; ``changed``: carried, and ``text`` says what is different;
            ``left out``; or ``no effect``, for a key that changes nothing in the training.
        ours: Our keys that have its value.
        text: The reason, for the user.
    """

    key: str
    fate: Fate
    ours: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Setting:
    """A key of ours with dots, its value, and where the value is from."""

    key: str
    value: Value
    comment: str


@dataclass(frozen=True)
class Imported:
    """A translated configuration: our settings, and the outcome of each key of the other tool, in its order."""

    tool: str
    settings: tuple[Setting, ...]
    outcomes: tuple[Outcome, ...]


class Sheet:
    """Reads the keys of a configuration, and collects our settings and the outcomes.

    Args:
        values: The configuration.
        tool: Name of the other tool, for comments.
        options: What the configuration does not say.
    """

    def __init__(self, values: Mapping[str, Any], tool: str, options: Options) -> None:
        self.values, self.tool, self.options = values, tool, options
        self._settings: dict[str, Setting] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._read: set[str] = set()

    def read(self, key: str, kind: Any, default: Any = None) -> Any:
        """The value of a key, or the default if the key is absent or null.

        Raises:
            ConfigError: It has another type.
        """
        self._read.add(key)
        value = self.values.get(key)
        return default if value is None else typed(kind, value, key)

    def given(self, key: str) -> bool:
        """Whether a key has a value."""
        return self.values.get(key) is not None

    def carry(self, ours: str, value: Value, *keys: str, note: str = "") -> None:
        """Set a key of ours, to the value of keys of the other tool; ``note`` says what is different here."""
        from_file = [key for key in keys if key in self.values]
        comment = " x ".join(from_file) if from_file else f"the default of {self.tool}"
        self._settings[ours] = Setting(ours, value, comment + (f"; {note}" if note else ""))
        for key in from_file:
            before = self._outcomes.get(key, Outcome(key, "carried"))
            texts = [text for text in (before.text, note) if text]
            fate: Fate = "changed" if texts else "carried"
            ours_too = tuple(dict.fromkeys((*before.ours, ours)))
            self._outcomes[key] = Outcome(key, fate, ours_too, "; ".join(dict.fromkeys(texts)))

    def fix(self, ours: str, value: Value, comment: str) -> None:
        """Set a key of ours that no key of the other tool decides."""
        self._settings[ours] = Setting(ours, value, comment)

    def has(self, key: str) -> bool:
        """Whether a key has an outcome, or is not in the file."""
        return key in self._outcomes or key not in self.values

    def change(self, key: str, note: str) -> None:
        """Add what is different here to the outcome of a carried key."""
        before = self._outcomes.get(key)
        if before is not None and before.ours:
            text = "; ".join(text for text in (before.text, note) if text)
            self._outcomes[key] = replace(before, fate="changed", text=text)

    def leave(self, key: str, why: str) -> None:
        """Leave a key out, if the file has it."""
        if key in self.values:
            self._outcomes[key] = Outcome(key, "left out", (), why)

    def idle(self, key: str, why: str) -> None:
        """Say why a key has no effect, if the file has it."""
        if key in self.values:
            self._outcomes[key] = Outcome(key, "no effect", (), why)

    def finish(self, extra: Set[str], left: Mapping[str, str], idle: Mapping[str, str]) -> Imported:
        """Decide about all other keys by tables.

        Args:
            extra: Keys that become keys of ``training.extra`` of the same name.
            left: Keys that are left out unless they are off, with the reason.
            idle: Keys that have no effect, with the reason.

        Raises:
            ConfigError: There is an unknown key.
        """
        known = {*self._read, *extra, *left, *idle}
        if unknown := [key for key in self.values if key not in known]:
            # A key of YAML may be a number.
            raise ConfigError(unknown_name(str(unknown[0]), known, self.tool))
        for key, value in self.values.items():
            if key in self._outcomes:
                continue
            if value is None:
                self.idle(key, "null, as if it were left out")
            elif value is False or value in ("", [], {}, "none", "no") or (value == 0 and key not in extra):
                self.idle(key, "it is off")
            elif key in extra:
                self.carry(f"training.extra.{key}", value, key)
            elif key in idle:
                self.idle(key, idle[key])
            else:
                self.leave(key, left.get(key, "it has no counterpart"))
        return Imported(self.tool, tuple(self._settings.values()), tuple(self._outcomes[key] for key in self.values))
