"""Scorers: any function of prompts and responses, its answers checked and its source known by digest."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from seralign.errors import ConfigError, SeralignError, one_line

ScoreFunction = Callable[[list[str], list[str]], Any]


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores responses to prompts, higher is better. ``digest`` names the function's source: another one scores
    differently, and figures of the two cannot be compared. ``key`` is the configuration key that names the scorer."""

    name: str
    digest: str
    function: ScoreFunction
    key: str = "scorer"

    def __call__(self, prompts: list[str], responses: list[str]) -> np.ndarray:
        """Scores [N] of N responses.

        Raises:
            ConfigError: the function raises or exits, or returns something else than one finite number a response;
                names the key, and where it failed.
        """
        try:
            result = self.function(prompts, responses)
            return _checked(self.name, self.key, result, len(responses))
        except SeralignError:
            raise
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{self.key}: {self.name} failed: {_told(error)}") from error


def make_scorer(function: ScoreFunction, name: str, settings: str = "", key: str = "scorer") -> Scorer:
    """A function as a scorer; ``settings`` is what else its scores depend on, ``key`` what messages begin with."""
    module = inspect.getmodule(function)
    try:
        source = inspect.getsource(module if module is not None else function)
    except (OSError, TypeError):
        source = name
    return Scorer(name, hashlib.sha256(f"{name}\n{settings}\n{source}".encode()).hexdigest(), function, key)


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
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{key}: cannot import {module_name!r}: {_told(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(f"{key}: module {module_name!r} has no function {function_name!r}")
    return make_scorer(function, spec, key=key)


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


def _told(error: BaseException) -> str:
    """What the user's code raised and the last of its lines that it came from."""
    kind = "" if isinstance(error, ModuleNotFoundError) else f"{type(error).__name__}: "
    place: TracebackType | None = error.__traceback__
    if isinstance(error, ModuleNotFoundError) or place is None:
        return f"{kind}{one_line(error)}"
    while place.tb_next is not None:
        place = place.tb_next
    file = Path(place.tb_frame.f_code.co_filename).name
    return f"{kind}{one_line(error)} ({file} line {place.tb_lineno})"
