"""A reward function where TRL expects a reward model: PPO, XPO and Nash-MD of TRL 1.12 call one with token ids."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from seralign.rlhf.reward import RewardFunction

# Where TRL 1.12 calls ``get_reward(model, ids, padding id, length of the padded prompts)``.
_CALLERS = (
    "trl.experimental.ppo.ppo_trainer", "trl.experimental.xpo.xpo_trainer", "trl.experimental.nash_md.nash_md_trainer"
)  # fmt: skip


class ScoringModule(nn.Module):
    """A reward function in the place of a reward model. It has no weights, and only ``scored_by_functions`` reads it.

    Args:
        reward: The reward function.
        prompts: The prompts by their token ids.
    """

    def __init__(self, reward: RewardFunction, prompts: dict[tuple[int, ...], str]) -> None:
        super().__init__()
        self._reward = reward
        self._prompts = prompts
        self.config = PretrainedConfig()
        self.config._name_or_path = "reward"  # TRL reads it

    def rewards(self, ids: Tensor, padding: int, context: int) -> Tensor:
        """Rewards [N] of the responses in ids [N, T], which begin after ``context`` tokens of padded prompts.

        Raises:
            SeralignError: as the reward function.
        """
        rows = ids.tolist()
        prompts = [self._prompts[_unpadded(row[:context], padding, self._prompts)] for row in rows]
        return torch.tensor(
            self._reward(prompts, [row[context:] for row in rows]), dtype=torch.float32, device=ids.device
        )


@contextmanager
def scored_by_functions() -> Iterator[None]:
    """While it is open, TRL asks a ``ScoringModule`` for rewards, and other models as before."""
    modules = [importlib.import_module(name) for name in _CALLERS]
    given = modules[0].get_reward

    def get_reward(model: Any, ids: Tensor, padding: int, context: int) -> tuple[Any, Tensor, Any]:
        if isinstance(model, ScoringModule):
            return None, model.rewards(ids, padding, context), None
        return given(model, ids, padding, context)

    try:
        for module in modules:
            module.get_reward = get_reward  # pyright: ignore
        yield
    finally:
        for module in modules:
            module.get_reward = given  # pyright: ignore


def _unpadded(ids: Sequence[int], padding: int, known: dict[tuple[int, ...], str]) -> tuple[int, ...]:
    """The known prompt at the end of padded ids. A prompt may begin with the token that is padding."""
    starts = range(len(ids)) if ids and ids[0] == padding else (0,)
    for start in starts:
        if (found := tuple(ids[start:])) in known:
            return found
        if ids[start] != padding:
            break
    raise KeyError(f"no prompt of the run in {list(ids)}")
