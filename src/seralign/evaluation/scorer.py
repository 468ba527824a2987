"""Scorers: any function of prompts and responses, its answers checked and its source known by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from seralign.errors import ConfigError
from seralign.plugins import load_plugin, plugin_errors, source_of

ScoreFunction = Callable[[list[str], list[str]], Any]


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores responses to prompts, higher is better. ``digest`` names the function's source: another one scores
    differently, and figures of the two cannot be compared. ``key`` is the configuration key that names the scorer."""

    name: str
    digest: str
    function: ScoreFunction
    key: str

    def __call__(self, prompts: list[str], responses: list[str]) -> np.ndarray:
        """Scores [N] of N responses.

        Raises:
            ConfigError: the function raises or exits, or returns something else than one finite number a response;
                names the key, and where it failed.
        """
        with plugin_errors(self.key, self.name):
            result = self.function(prompts, responses)
            return _checked(self.name, self.key, result, len(responses))


def make_scorer(function: ScoreFunction, name: str, key: str, settings: str = "") -> Scorer:
    """A function as a scorer; ``key`` is what messages begin with, ``settings`` what else its scores depend on."""
    source = source_of(function, name)
    return Scorer(name, hashlib.sha256(f"{name}\n{settings}\n{source}".encode()).hexdigest(), function, key)


def load_scorer(spec: str, key: str) -> Scorer:
    """The function ``spec`` as a scorer; ``key`` is the configuration key that names it, for messages.

    Modules are found where Python finds them, and in the current folder.

    Raises:
        ConfigError: The module or function is missing or fails to load.
    """
    return make_scorer(load_plugin(spec, key, "function"), spec, key)


def _checked(name: str, key: str, result: object, count: int) -> np.ndarray:
    try:
        scores = np.asarray(result, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{key}: {name} must return numbers, got {type(result).__name__}") from None
    if scores.shape != (count,):
        raise ConfigError(f"{key}: {name} must return one score a response: shape ({count},), got {scores.shape}")
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        raise ConfigError(f"{key}: {name} returned {scores[bad[0]]} for response {bad[0]}; scores must be finite")
    return scores
