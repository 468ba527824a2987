"""Scorers: functions of prompts and responses. Their results are checked, and their source is recorded by digest."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from seralign.errors import ConfigError
from seralign.evaluation.reward_scorer import PREFIX, reward_function
from seralign.plugins import load_plugin, plugin_errors, source_of

# Beyond it sums and squares of scores overflow.
MAX_SCORE = 1e30

ScoreFunction = Callable[[list[str], list[str]], Any]


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores responses to prompts; higher is better.

    ``digest`` identifies the source of the function and its data files. A function with another source may score
    differently, so figures of the two cannot be compared. ``key`` is the configuration key that names the scorer.
    """

    name: str
    digest: str
    function: ScoreFunction
    key: str

    def __call__(self, prompts: list[str], responses: list[str]) -> np.ndarray:
        """Scores [N] of N responses.

        Raises:
            ConfigError: the function raises or exits, or does not return one finite number per response; names
                the key, and where it failed.
        """
        with plugin_errors(self.key, self.name):
            result = self.function(prompts, responses)
            return _checked(self.name, self.key, result, prompts)


def make_scorer(function: ScoreFunction, name: str, key: str, settings: str = "") -> Scorer:
    """Make a scorer of a function.

    Args:
        function: The function. It may have an attribute ``data_files``, a list of the files that it reads: paths, from
            the folder of its module. They are part of the digest.
        name: Its name.
        key: The configuration key that names it; messages begin with it.
        settings: What else the scores depend on.

    Raises:
        ConfigError: a data file cannot be read.
    """
    digest = hashlib.sha256(f"{name}\n{settings}\n{source_of(function, name)}".encode())
    for path in _data_files(function, name, key):
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise ConfigError(f"{key}: {name}.data_files: {path} cannot be read ({error.strerror or error})") from None
    return Scorer(name, digest.hexdigest(), function, key)


def load_scorer(spec: str, key: str, *, rendered: bool = False) -> Scorer:
    """Load the function ``spec`` as a scorer, or a reward model.

    Modules are imported from the Python path or the current folder.

    Args:
        spec: ``module:function``, or ``reward_model:FOLDER``.
        key: The configuration key that names it, for messages.
        rendered: Whether prompts have a chat template applied already; only a reward model needs to know.

    Raises:
        ConfigError: the module or the function is missing, or fails to load.
        ModelError: there is no such reward model.
    """
    if spec.startswith(PREFIX):
        function = reward_function(spec.removeprefix(PREFIX), key, rendered)
        return Scorer(spec, function.digest, function, key)
    return make_scorer(load_plugin(spec, key, "function"), spec, key)


def _data_files(function: ScoreFunction, name: str, key: str) -> list[Path]:
    given = getattr(function, "data_files", [])
    if not isinstance(given, list | tuple) or not all(isinstance(path, str | PurePath) for path in given):
        raise ConfigError(f"{key}: {name}.data_files must be a list of paths, got {given!r}")
    module = inspect.getmodule(function)
    source = None if module is None else getattr(module, "__file__", None)
    folder = Path.cwd() if source is None else Path(source).parent
    return [folder / path for path in given]


def _checked(name: str, key: str, result: object, prompts: Sequence[str]) -> np.ndarray:
    count = len(prompts)
    try:
        given = np.asarray(result)
        scores = np.asarray(result, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{key}: {name} must return numbers, got {type(result).__name__}") from None
    other = next((one for one in given.ravel().tolist() if isinstance(one, str | bytes | bool)), None)
    if other is not None:
        raise ConfigError(f"{key}: {name} must return numbers, got {other!r}; convert it with float()")
    if scores.shape != (count,):
        raise ConfigError(
            f"{key}: {name} must return one score per response, with shape ({count},), got {scores.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        first = int(bad[0])
        raise ConfigError(
            f"{key}: {name} returned {scores[first]} for response {first}; scores must be finite. Its prompt: "
            f"{_ends(prompts[first])}"
        )
    if count and np.abs(scores).max() > MAX_SCORE:
        largest = scores[np.abs(scores).argmax()]
        raise ConfigError(f"{key}: {name} returned {largest:g}; scores are at most {MAX_SCORE:g} in size")
    return scores


def _ends(prompt: str) -> str:
    """A prompt for a message. Of a long one, its beginning and its end, where a conversation asks."""
    return repr(prompt) if len(prompt) <= 240 else f"{prompt[:60]!r} … {prompt[-160:]!r}"
