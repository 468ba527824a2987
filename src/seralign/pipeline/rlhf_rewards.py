"""What a run maximises by reinforcement learning, and the scores that it tracks beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from seralign.config.rlhf import JUDGE, SCORER
from seralign.errors import ConfigError
from seralign.evaluation.reward_scorer import RewardFunction
from seralign.evaluation.scorer import Scorer, load_scorer
from seralign.evaluation.scores import StoredScorer
from seralign.records import Prompt
from seralign.rlhf.judged import JudgedReward
from seralign.rlhf.reward import Reward, Rewards

if TYPE_CHECKING:
    from seralign.config import RunConfig
    from seralign.pipeline.context import Loop


def reward_scorers(config: RunConfig, scorer: Scorer | None) -> dict[str, Scorer]:
    """The scorers of ``rlhf.reward`` and ``rlhf.track`` by key; a judge is none. Loads no weights.

    Args:
        config: Of the run.
        scorer: The run's own.

    Raises:
        ConfigError: a function is missing or fails to load, or the run has no scorer; names the key.
        ModelError: there is no such reward model.
    """
    if config.rlhf is None:
        return {}
    found = {}
    for key, spec in ((f"rlhf.{key}", spec) for key, spec in config.rlhf.scorers.items()):
        if spec == SCORER:
            if scorer is None:
                raise ConfigError(f"{key}: scorer is that of evaluation.scorer, which is not set; set it")
            found[key] = scorer
        elif spec != JUDGE:
            found[key] = load_scorer(spec, key, rendered=True)
    return found


def run_rewards(loop: Loop, prompts: Mapping[str, Prompt]) -> Rewards:
    """The reward of a run, and what it tracks.

    Args:
        loop: The run.
        prompts: The prompts by text.
    """
    rlhf, scorers = loop.config.rlhf, loop.reward_scorers
    assert rlhf is not None
    identity = {key: scorer.digest for key, scorer in scorers.items()}
    tracked = {scorer.name: _stored(scorer, loop) for key, scorer in scorers.items() if key != "rlhf.reward"}
    if rlhf.reward == JUDGE:
        assert loop.judge is not None
        reward = JudgedReward(loop.judge, loop.evaluated, prompts)
        return Rewards(JUDGE, reward, identity | {"evaluation.judge": loop.judge.identity}, tracked)
    own = scorers["rlhf.reward"]
    return Rewards(own.name, _stored(own, loop), identity, tracked)


def _stored(scorer: Scorer, loop: Loop) -> Reward:
    """A scorer whose scores are stored, unless they are a model's of ours, which cost nothing to repeat."""
    if isinstance(scorer.function, RewardFunction):
        return scorer
    return StoredScorer(scorer, loop.results)
