"""A scorer of the user's own: any function of prompts and responses, named ``module:function``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from seralign.errors import ConfigError

Scorer = Callable[[list[str], list[str]], np.ndarray]


def load_scorer(spec: str) -> Scorer:
    """The function ``spec``, as one whose answer is checked: scores [N] of N responses, finite, higher is better.

    Modules are found where Python finds them, and in the current folder.

    Raises:
        ConfigError: The module or function is missing or fails to load; from the scorer itself, where it returns
            something else than one finite number a response.
    """
    module_name, _, function_name = spec.partition(":")
    if not module_name or not function_name:
        raise ConfigError(f"evaluation.scorer must be of the form module:function, got {spec!r}")
    # The installed command, unlike python -m, does not look for modules in the current folder.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(f"evaluation.scorer: cannot import {module_name!r}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(f"evaluation.scorer: module {module_name!r} has no function {function_name!r}")

    def score(prompts: list[str], responses: list[str]) -> np.ndarray:
        return _checked(spec, function(prompts, responses), len(responses))

    return score


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
