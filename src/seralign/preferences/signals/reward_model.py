"""Reward models that score responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from seralign.checks import positive, require
from seralign.data.content import NOTHING, Inputs
from seralign.data.formats import read_prompt
from seralign.data.place import Reading
from seralign.data.raw import Drop
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

    @cached_property
    def _opened(self) -> list[RewardModel]:
        """The models, opened once: their weights are read to identify them."""
        from seralign.rewards.reward_model import open_reward_model

        return [open_reward_model(name, f"models[{place}]") for place, name in enumerate(self.models)]

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
        of_models = [rewards_of(model, flat, results) for model in self._opened]
        rest = iter(ensemble_rewards(of_models).cautious(self.penalty).tolist())
        return [Scored(tuple(next(rest) for _ in own)) for own in texts]


def rewards_of(model: RewardModel, asked: Sequence[tuple[Group, str]], results: Results) -> np.ndarray:
    """Rewards [N], stored by their content."""
    prompts, inputs = zip(*(_prompt(model, group) for group, _ in asked), strict=True)
    identity = model.identity
    contents = zip(prompts, inputs, asked, strict=True)
    keys = [
        result_key("reward", [identity, prompt, response, *([own.given()] if own else [])])
        for prompt, own, (_, response) in contents
    ]
    found: dict[bytes, float] = dict(results.get(list(dict.fromkeys(keys))))
    todo = {key: number for number, key in enumerate(keys) if key not in found}
    numbers = list(todo.items())
    for start in range(0, len(numbers), _TOGETHER):
        some = numbers[start : start + _TOGETHER]
        places = [number for _, number in some]
        rewards = model.score(
            [prompts[at] for at in places], [asked[at][1] for at in places], [inputs[at] for at in places]
        )
        stored = dict(zip([key for key, _ in some], rewards.tolist(), strict=True))
        results.put(stored)
        found |= stored
    return np.array([found[key] for key in keys])


def _prompt(model: RewardModel, group: Group) -> tuple[Any, Inputs]:
    """The prompt of a group as the model reads it, with its system message, earlier turns and tools.

    Raises:
        DataError: It is no prompt.
    """
    if model.tokenizer.chat_template is None:
        return prompt_text(group), NOTHING
    row = {"prompt": group.prompt, **group.inputs}
    raw = read_prompt(row, group.where, Reading("candidates", as_chat=True))
    if isinstance(raw, Drop):
        raise group.error(raw.reason)
    return raw.prompt, raw.inputs
