"""Reward models that score responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from seralign.checks import positive, require
from seralign.evaluation.reward_scorer import prompt_of
from seralign.preferences.groups import Group
from seralign.preferences.opinions import Opinion, Scored
from seralign.preferences.signals.texts import prompt_text, response_texts
from seralign.runs.results import Results, result_key

if TYPE_CHECKING:
    from seralign.rewards.reward_model import RewardModel

# Responses that are scored and stored at a time.
_TOGETHER = 256


@dataclass(frozen=True)
class RewardModelSignal:
    """Scores by one reward model, or the mean of several less a penalty where they disagree.

    The model's chat template is applied to a conversation, and to a prompt of text as what a user says. A model without
    a chat template reads prompts of text alone.

    Args:
        models: Folders of reward models: results of ``objective.name: reward``, or others that
            ``AutoModelForSequenceClassification`` opens with one label; or names on the hub.
        penalty: c: the score is the mean over the models less c times their standard deviation.
        temperature: p = sigmoid(difference / temperature); null gives the higher score p = 1. 1 is the model of Bradley
            and Terry that reward models are trained by.
    """

    models: list[str]
    penalty: float = 0.0
    temperature: float | None = 1.0

    def __post_init__(self) -> None:
        require(len(self.models) > 0, "models", "at least one folder", self.models)
        require(0.0 <= self.penalty < float("inf"), "penalty", "at least 0", self.penalty)
        require(self.penalty == 0 or len(self.models) > 1, "penalty", "0 for a single model", self.penalty)
        if self.temperature is not None:
            positive(self.temperature, "temperature")

    @property
    def identity(self) -> str:
        """Those of the models."""
        return " + ".join(model.identity for model in self._opened)

    @property
    def _opened(self) -> list[RewardModel]:
        return [_opened(name, f"models[{place}]") for place, name in enumerate(self.models)]

    def ask(self, groups: Sequence[Group], results: Results) -> list[Opinion]:
        """The scores of all responses.

        Raises:
            ModelError: A reward is NaN or infinite, or all rewards of a model are the same.
        """
        from seralign.rewards.reward_model import ensemble_rewards

        texts = [response_texts(group) for group in groups]
        flat = [(group, text) for group, own in zip(groups, texts, strict=True) for text in own]
        if not flat:
            return []
        of_models = [_rewards(model, flat, results) for model in self._opened]
        rest = iter(ensemble_rewards(of_models).cautious(self.penalty).tolist())
        return [Scored(tuple(next(rest) for _ in own)) for own in texts]


def _rewards(model: RewardModel, asked: Sequence[tuple[Group, str]], results: Results) -> np.ndarray:
    """Rewards [N], stored by their content."""
    prompts = [_prompt(model, group) for group, _ in asked]
    identity = model.identity
    keys = [
        result_key("reward", [identity, prompt, response]) for prompt, (_, response) in zip(prompts, asked, strict=True)
    ]
    found: dict[bytes, float] = dict(results.get(list(dict.fromkeys(keys))))
    todo = {key: number for number, key in enumerate(keys) if key not in found}
    numbers = list(todo.items())
    for start in range(0, len(numbers), _TOGETHER):
        some = numbers[start : start + _TOGETHER]
        rewards = model.score([prompts[number] for _, number in some], [asked[number][1] for _, number in some])
        stored = dict(zip([key for key, _ in some], rewards.tolist(), strict=True))
        results.put(stored)
        found |= stored
    return np.array([found[key] for key in keys])


def _prompt(model: RewardModel, group: Group) -> Any:
    """The prompt of a group: its messages, if it has some, else its text."""
    given = group.prompt
    roles = isinstance(given, list | tuple) and all(
        isinstance(message, dict) and isinstance(message.get("content"), str) and "role" in message for message in given
    )
    if roles and model.tokenizer.chat_template is not None:
        return tuple({"role": message["role"], "content": message["content"]} for message in given)
    return prompt_of(model, prompt_text(group), rendered=False)


@cache
def _opened(name: str, key: str) -> RewardModel:
    from seralign.rewards.reward_model import open_reward_model

    return open_reward_model(name, key)
