"""The reward models of a study in the keys of its cells, by a name in place of their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# The name of the study's reward models, and the keys that may have it. ``scoring.reward_models`` has all of them, and
# the others the first one.
REWARD, _OF_STUDY = "study", "reward_model:study"
_ALL = "scoring.reward_models"
_REWARD_KEYS = ("rlhf.reward", "rlhf.track", "evaluation.scorer")


def with_reward_models(overrides: Mapping[str, Any], folders: Sequence[str]) -> dict[str, Any]:
    """The keys of a cell with the folders of the study's reward models where they name them."""

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [named(part) for part in value]
        return f"{_OF_STUDY.removesuffix(REWARD)}{folders[0]}" if value == _OF_STUDY else value

    found = {key: named(value) if key in _REWARD_KEYS else value for key, value in overrides.items()}
    if _ALL in found:
        parts = found[_ALL] if isinstance(found[_ALL], list) else [found[_ALL]]
        found[_ALL] = [folder for part in parts for folder in (folders if part == REWARD else [part])]
    return found


def without_folder(name: str, folder: str) -> str:
    """The name of a scorer of a cell with the study's name for its reward model, the same for all seeds."""
    return name.replace(f"{_OF_STUDY.removesuffix(REWARD)}{folder}", _OF_STUDY)


def models_named(overrides: Mapping[str, Any], count: int) -> int:
    """How many of the study's reward models keys name, of ``count``: none, the first one, or all."""
    if REWARD in (overrides.get(_ALL) or []):
        return count
    given = [overrides.get(key) for key in _REWARD_KEYS]
    return int(_OF_STUDY in given or any(isinstance(each, list) and _OF_STUDY in each for each in given))
