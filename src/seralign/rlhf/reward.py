"""The reward function that a trainer of TRL calls, and the figures of the responses that it sees.

Legend: N responses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from seralign.errors import ConfigError, ModelError
from seralign.progress import say
from seralign.runs.layout import RLHF_LENGTH, RLHF_REWARD, RLHF_SPREAD, RLHF_TRACKED, RLHF_UNFINISHED

# Texts of N prompts as the policy reads them, and of N responses, to N numbers. Equal prompts are one group.
Reward = Callable[[list[str], list[str]], np.ndarray]
# After so many steps without a difference between the responses to any prompt, there is nothing to learn.
CONSTANT_STEPS = 10


@dataclass(frozen=True)
class Rewards:
    """What is maximised, and what is only measured.

    Args:
        name: The reward, as the configuration names it.
        reward: The reward.
        identity: Names everything that the rewards and the tracked scores depend on, by configuration key.
        tracked: Other scores by name.
    """

    name: str
    reward: Reward
    identity: Mapping[str, str]
    tracked: Mapping[str, Reward] = field(default_factory=dict)


class RewardFunction:
    """A reward function as the trainers of TRL call it. It decodes responses as the rest of the run does.

    Args:
        rewards: What is maximised and measured.
        tokenizer: Of the policy.
        end_tokens: Ids that end a response.
    """

    __name__ = "reward"

    def __init__(self, rewards: Rewards, tokenizer: PreTrainedTokenizerBase, end_tokens: frozenset[int]) -> None:
        self._rewards, self._tokenizer, self._end_tokens = rewards, tokenizer, end_tokens
        self._seen: dict[str, list[float]] = {}
        self._calls, self._varied = 0, False
        self._first_reward: float | None = None
        self._first_step: int | None = None

    def __call__(self, prompts: Sequence[str], completion_ids: Sequence[Sequence[int]], **others: Any) -> list[float]:
        """Rewards [N].

        Args:
            prompts: Texts of N prompts.
            completion_ids: Tokens of N responses; what follows an end token is padding.
            others: What else TRL gives, which is not read.

        Raises:
            ConfigError: the scorer or the judge fails, or a reward is not finite.
            ModelError: a reward of a reward model is not finite.
        """
        cut = [self._until_end(ids) for ids in completion_ids]
        texts = [str(self._tokenizer.decode(ids, skip_special_tokens=True)) for ids in cut]
        found = self._rewards.reward(list(prompts), texts)
        if not np.isfinite(found).all():
            raise ModelError(f"rlhf.reward: {self._rewards.name} gives a reward that is not finite")
        self._keep(RLHF_REWARD, found.tolist())
        self._keep(RLHF_LENGTH, [float(len(ids)) for ids in cut])
        self._keep(RLHF_UNFINISHED, [float(not ids or ids[-1] not in self._end_tokens) for ids in cut])
        for name, score in self._rewards.tracked.items():
            self._keep(f"{RLHF_TRACKED}{name}", score(list(prompts), texts).tolist())
        spreads = [float(found[rows].std()) for rows in groups(prompts) if len(rows) > 1]
        if spreads:
            self._keep(RLHF_SPREAD, spreads)
        self._calls += 1
        # Where each prompt has one response, those of all calls are compared: a call may have a single one.
        self._first_reward = float(found[0]) if self._first_reward is None else self._first_reward
        # By the values: the standard deviation of equal ones can round to more than 0.
        alike = [np.ptp(found[rows]) == 0 for rows in groups(prompts) if len(rows) > 1]
        self._varied |= not all(alike) if alike else bool((found != self._first_reward).any())
        return found.tolist()

    def take(self) -> dict[str, float]:
        """The means since the last call, by name; empty if nothing was scored."""
        means = {name: float(np.mean(values)) for name, values in self._seen.items()}
        self._seen = {}
        return means

    @property
    def says_nothing(self) -> bool:
        """Whether all responses to each prompt had the same reward so far."""
        return self._calls > 0 and not self._varied

    def check(self, step: int, steps: int) -> None:
        """Check after a step that the reward distinguishes responses. A shorter training ends with a warning.

        Args:
            step: The number of the step.
            steps: All steps of the training.

        Raises:
            ConfigError: it gave the same reward to all responses to each prompt in the first ``CONSTANT_STEPS`` steps
                of this process. What a training that resumes has seen before is not known.
        """
        self._first_step = step if self._first_step is None else self._first_step
        seen = step - self._first_step + 1
        if self._varied or (seen < CONSTANT_STEPS and step < steps):
            return
        since = "" if self._first_step == 1 else f" since step {self._first_step}, where the training was resumed"
        what = (
            f"rlhf.reward: {self._rewards.name} gave all responses to a prompt the same reward, in each of "
            f"{self._calls} batches{since}, so there is nothing to learn; give another reward, or a higher "
            "rlhf.temperature, for different responses"
        )
        if seen >= CONSTANT_STEPS:
            raise ConfigError(what)
        say(f"warning: {what}")

    def _until_end(self, ids: Sequence[int]) -> list[int]:
        length = next((at + 1 for at, token in enumerate(ids) if token in self._end_tokens), len(ids))
        return list(ids[:length])

    def _keep(self, name: str, values: list[float]) -> None:
        self._seen.setdefault(name, []).extend(values)


def groups(prompts: Sequence[str]) -> list[list[int]]:
    """The numbers of the responses to each different prompt."""
    found: dict[str, list[int]] = {}
    for number, prompt in enumerate(prompts):
        found.setdefault(prompt, []).append(number)
    return list(found.values())
