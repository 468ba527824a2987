"""The reward model of a study in the keys of its cells, by a name in place of its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The names of the study's reward model, and the keys that may have them.
REWARD, _OF_STUDY = "study", "reward_model:study"
_REWARD_KEYS = ("rlhf.reward", "rlhf.track", "scoring.reward_models", "evaluation.scorer")


def with_reward_model(overrides: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The keys of a cell with the folder of the study's reward model where they name it."""

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [named(part) for part in value]
        if value == REWARD:
            return folder
        return f"{_OF_STUDY.removesuffix(REWARD)}{folder}" if value == _OF_STUDY else value

    return {key: named(value) if key in _REWARD_KEYS else value for key, value in overrides.items()}


def without_folder(name: str, folder: str) -> str:
    """The name of a scorer of a cell with the study's name for its reward model, the same for all seeds."""
    return name.replace(f"{_OF_STUDY.removesuffix(REWARD)}{folder}", _OF_STUDY)


def names_reward(overrides: Mapping[str, Any]) -> bool:
    """Whether keys name the study's reward model."""
    return with_reward_model(overrides, "folder") != dict(overrides)
