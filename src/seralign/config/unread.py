"""Keys that a run of some kind would not read. Imports no torch.

A value that is not the default is an error when a run begins. Defaults are accepted: a printed configuration has them
all. ``RunConfig`` itself refuses what contradicts the kind of a run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from seralign.config.data import WorldConfig
from seralign.config.fields import is_inline
from seralign.config.run import RunConfig
from seralign.config.stop import StopConfig
from seralign.errors import ConfigError


@dataclass(frozen=True)
class Unread:
    """Keys that runs of a kind do not read.

    Args:
        applies: Whether a run is of the kind.
        keys: The keys; a section stands for all keys in it.
        why: Follows the key in the error.
    """

    applies: Callable[[RunConfig], bool]
    keys: tuple[str, ...]
    why: str


def _rewarded(config: RunConfig) -> bool:
    return config.rlhf is not None


def _marginless(config: RunConfig) -> bool:
    return config.rlhf is None and not config.objective.compares


def _reward_model(config: RunConfig) -> bool:
    return config.rlhf is None and not config.objective.samples


_ROUNDS = ("scoring.ensemble_weight", "scoring.length_correction", "scoring.length_band", "selection", "bootstrap",
           "stop", "policy.start", "reference.update")  # fmt: skip
TABLE = (
    Unread(
        _rewarded,
        ("training.tokens_per_pack",),
        "it packs pairs, and rlhf trains on sampled responses; remove it, or set rlhf.prompts_per_pass for less memory",
    ),
    Unread(
        lambda config: config.rlhf is not None and config.rlhf.method == "ppo",
        ("training.save_steps",),
        "ppo of TRL saves no checkpoints; remove it",
    ),
    Unread(_rewarded, ("scoring.ensemble_weight", "stop"), "it is for rounds of pairs, and rlhf has none; remove it"),
    Unread(
        lambda config: config.rlhf is not None and not config.has_pairs,
        ("data.convert", "data.keep_columns"),
        "it is of data.pairs, which are not given; remove it",
    ),
    Unread(_marginless, _ROUNDS, "it is for rounds after the first, and supervised training has one; remove it"),
    Unread(_reward_model, _ROUNDS, "it is for rounds of a policy, and a reward model is trained in one; remove it"),
)


@dataclass(frozen=True)
class Found:
    """A key that a run would not read, the default that it differs from, and why it is not read."""

    key: str
    default: Any
    why: str


def unread_keys(config: RunConfig) -> Iterator[Found]:
    """The keys with another value than the default that the run would not read."""
    for row in TABLE:
        if row.applies(config):
            for key in row.keys:
                yield from (Found(changed, default, row.why) for changed, default in _changed(config, key))


def check_read(config: RunConfig) -> None:
    """Refuse keys that the run would not read.

    Raises:
        ConfigError: names the first of them, and what to do.
    """
    for found in unread_keys(config):
        raise ConfigError(f"{found.key}: {found.why}")


def _changed(config: RunConfig, key: str) -> Iterator[tuple[str, Any]]:
    """The keys at or below ``key`` that differ from their defaults, with those."""
    value, default = config.resolved(), _plain(config)
    for name in key.split("."):
        value, default = getattr(value, name), getattr(default, name)
    yield from _different(value, default, key)


def _plain(config: RunConfig) -> RunConfig:
    """A configuration with defaults alone; ``stop.metric: never`` is true of a run without rounds, so it is one."""
    metric = config.stop.metric
    stop = StopConfig(metric="never") if metric == "never" else StopConfig()
    return RunConfig("-", world=WorldConfig(), stop=stop).resolved()


def _different(value: Any, default: Any, key: str) -> Iterator[tuple[str, Any]]:
    if value is None:  # a section without which nothing is set
        return
    if not dataclasses.is_dataclass(value):
        if value != default:
            yield key, default
        return
    for field in dataclasses.fields(value):
        below = key if is_inline(field) else f"{key}.{field.name}"
        yield from _different(getattr(value, field.name), getattr(default, field.name, None), below)
