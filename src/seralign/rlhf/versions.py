"""The releases of TRL that have each method."""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import SpecifierSet

from seralign.config.rlhf import Method
from seralign.errors import ConfigError


@dataclass(frozen=True)
class Place:
    """Where TRL has a method: the module of its two classes, and the releases that seralign runs it with."""

    module: str
    trainer: str
    settings: str
    releases: str


# What is stable is that in later releases, too. The last release with PPO is 1.12.0, and that with XPO and Nash-MD is
# 1.13.0; 1.12.0 has all three.
_STABLE, _NEWEST, _LAST = ">=1.16,<2", "==1.16.*", "==1.12.0"
PLACES: dict[Method, Place] = {
    "grpo": Place("trl", "GRPOTrainer", "GRPOConfig", _STABLE),
    "rloo": Place("trl", "RLOOTrainer", "RLOOConfig", _STABLE),
    "online_dpo": Place("trl.experimental.online_dpo", "OnlineDPOTrainer", "OnlineDPOConfig", _NEWEST),
    "ppo": Place("trl.experimental.ppo", "PPOTrainer", "PPOConfig", _LAST),
    "xpo": Place("trl.experimental.xpo", "XPOTrainer", "XPOConfig", _LAST),
    "nash_md": Place("trl.experimental.nash_md", "NashMDTrainer", "NashMDConfig", _LAST),
}


@dataclass(frozen=True)
class Classes:
    """The trainer of a method, and the class of its settings."""

    trainer: Any
    settings: Any


def installed_trl() -> str | None:
    """The release of TRL that is installed; None without any."""
    try:
        return importlib.metadata.version("trl")
    except importlib.metadata.PackageNotFoundError:
        return None


def check_trl(method: Method) -> None:
    """Check that a release of TRL with a method is installed. Imports nothing.

    Raises:
        ConfigError: it is not; says what to install.
    """
    releases, found = PLACES[method].releases, installed_trl()
    if found is not None and SpecifierSet(releases).contains(found):
        return
    has = "TRL is not installed" if found is None else f"TRL {found} is installed"
    apart = ", in an environment of its own (docs/rlhf.md)" if releases == _LAST else ""
    raise ConfigError(f"rlhf.method: {method} needs trl{releases}, and {has}; pip install 'trl{releases}'{apart}")


def method_classes(method: Method) -> Classes:
    """The classes of a method.

    Raises:
        ConfigError: as ``check_trl``.
    """
    check_trl(method)
    place = PLACES[method]
    with warnings.catch_warnings():
        # That interfaces of experimental trainers may change; the release is pinned.
        warnings.filterwarnings("ignore", "You are importing from 'trl.experimental'")
        module = importlib.import_module(place.module)
    return Classes(getattr(module, place.trainer), getattr(module, place.settings))
