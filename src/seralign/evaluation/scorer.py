"""Scorers: any function of prompts and responses, its answers checked and its source known by digest."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seralign.errors import ConfigError

ScoreFunction = Callable[[list[str], list[str]], Any]


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores responses to prompts, higher is better. ``digest`` names the function's source: another one scores
    differently, and figures of the two cannot be compared."""

    name: str
    digest: str
    function: ScoreFunction

    def __call__(self, prompts: list[str], responses: list[str]) -> np.ndarray:
        """Scores [N] of N responses.

        Raises:
            ConfigError: the function returns something else than one finite number a response.
        """
        return _checked(self.name, self.function(prompts, responses), len(responses))


def make_scorer(function: ScoreFunction, name: str, settings: str = "") -> Scorer:
    """A function as a scorer; ``settings`` is what else its scores depend on."""
    module = inspect.getmodule(function)
    try:
        source = inspect.getsource(module if module is not None else function)
    except (OSError, TypeError):
        source = name
    return Scorer(name, hashlib.sha256(f"{name}\n{settings}\n{source}".encode()).hexdigest(), function)


def load_scorer(spec: str, key: str = "evaluation.scorer") -> Scorer:
    """The function ``spec`` as a scorer; ``key`` is the configuration key that names it, for messages.

    Modules are found where Python finds them, and in the current folder.

    Raises:
        ConfigError: The module or function is missing or fails to load.
    """
    module_name, _, function_name = spec.partition(":")
    if not module_name or not function_name:
        raise ConfigError(f"{key} must be of the form module:function, got {spec!r}")
    # The installed command, unlike python -m, does not look for modules in the current folder.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(f"{key}: cannot import {module_name!r}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(f"{key}: module {module_name!r} has no function {function_name!r}")
    return make_scorer(function, spec)


def _checked(spec: str, result: object, count: int) -> np.ndarray:
    try:
        scores = np.asarray(result, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"evaluation.scorer: {spec} must return numbers, got {type(result).__name__}") from None
    if scores.shape != (count,):
        raise ConfigError(
            f"evaluation.scorer: {spec} must return one score a response: shape ({count},), got {scores.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        raise ConfigError(
            f"evaluation.scorer: {spec} returned {scores[bad[0]]} for response {bad[0]}; scores must be finite"
        )
    return scores
