"""A reward model as a scorer: ``reward_model:FOLDER`` in place of ``module:function``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from seralign.rewards.reward_model import RewardModel

PREFIX = "reward_model:"


@dataclass(frozen=True)
class RewardFunction:
    """Scores texts by a reward model.

    Args:
        model: The reward model.
        rendered: Whether prompts are texts as the policy reads them. Otherwise they are what a user says, and become a
            message if the model has a chat template.
    """

    model: RewardModel
    rendered: bool

    @property
    def digest(self) -> str:
        """Identifies everything that the scores depend on."""
        return hashlib.sha256(f"{self.model.identity}\n{self.rendered}".encode()).hexdigest()

    def __call__(self, prompts: list[str], responses: list[str]) -> np.ndarray:
        """Rewards [N].

        Raises:
            ModelError: a reward is NaN or infinite, or all are the same.
        """
        return self.model.score([prompt_of(self.model, text, self.rendered) for text in prompts], responses)


def prompt_of(model: RewardModel, text: str, rendered: bool) -> Any:
    """A prompt of text as a reward model takes it."""
    if rendered or model.tokenizer.chat_template is None:
        return text
    return ({"role": "user", "content": text},)


def reward_function(name: str, key: str, rendered: bool) -> RewardFunction:
    """The function of the reward model ``name``. It is loaded once, as long as its files stay the same.

    Raises:
        ModelError: there is none; the message begins with the key.
    """
    from seralign.rewards.reward_model import open_reward_model

    model = open_reward_model(name, key)
    return _kept.setdefault((key, model.identity, rendered), RewardFunction(model, rendered))


_kept: dict[tuple[str, str, bool], RewardFunction] = {}
