"""Rewards of reward models in the rounds, in place of the implicit reward or mixed with it.

Legend: N responses or examples, M reward models.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from seralign.pipeline.context import Loop
from seralign.pipeline.forecast.foreseen import Foreseen
from seralign.pipeline.forecast.work import Passes
from seralign.rewards.ordering import Ordering
from seralign.rewards.responses import Responses, plan_scoring
from seralign.rewards.reward_model import ensemble_rewards, open_reward_model
from seralign.rewards.usable import Usable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from seralign.config import RunConfig
    from seralign.pipeline.forecast.forecast import Forecast
    from seralign.rewards.reward_model import RewardModel

_KEYS = (
    "scoring.reward",
    "scoring.reward_penalty",
    "scoring.reward_weight",
    "scoring.dtype",
    "scoring.tokens_per_pack",
)


def open_models(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> tuple[RewardModel, ...]:
    """The reward models of a run, checked against the policy's tokenizer.

    Raises:
        ModelError: one does not exist, has other than one label, or reads other tokens; names its key.
    """
    found = []
    for place, name in enumerate(config.scoring.reward_models):
        model = open_reward_model(name, f"scoring.reward_models[{place}]")
        model.check_tokenizer(tokenizer)
        found.append(model)
    return tuple(found)


def model_inputs(loop: Loop) -> dict[str, str]:
    """The reward models among a stage's inputs, by digest, and how they are used; empty without any."""
    models = {f"reward model {place}": model.digest for place, model in enumerate(loop.reward_models)}
    return models | loop.settings(*_KEYS) if models else {}


def offline_margins(loop: Loop, responses: Responses, ordering: Ordering, implicit: np.ndarray) -> np.ndarray:
    """The margins [N] by which examples are selected, from their margins by the implicit reward.

    Margins of several models are combined before the penalty, so it is their disagreement about the example.
    """
    if not loop.reward_models:
        return implicit
    margins = [ordering.margin(rewards) for rewards in model_rewards(loop, responses)]
    found = ensemble_rewards(margins).cautious(loop.config.scoring.reward_penalty)
    return _mixed(loop, implicit, found, _scale(implicit), _scale(found))


def candidate_rewards(loop: Loop, responses: Responses, groups: Usable, implicit: np.ndarray) -> np.ndarray:
    """The rewards [N] by which sampled responses are compared, from their implicit rewards.

    Args:
        loop: The run.
        responses: All candidates.
        groups: The numbers of the usable ones, by prompt.
        implicit: Their ensembled implicit rewards [N].
    """
    if not loop.reward_models:
        return implicit
    found = ensemble_rewards(model_rewards(loop, responses)).cautious(loop.config.scoring.reward_penalty)
    return _mixed(loop, implicit, found, _scale_within(groups, implicit), _scale_within(groups, found))


def model_passes(forecast: Forecast, responses: Foreseen) -> tuple[Passes, ...]:
    """Forward passes over responses under every reward model; each is taken to be as large as the policy."""
    loop = forecast.loop
    packs = plan_scoring(responses.as_responses(), loop.config.scoring.tokens_per_pack, loop.packed_length)
    return tuple(forecast.passes(responses, packs) for _ in loop.reward_models)


def model_rewards(loop: Loop, responses: Responses) -> list[np.ndarray]:
    """Rewards [N] of each model; a model is in memory only while it scores."""
    scoring = loop.config.scoring
    return [
        replace(model).rewards(responses, loop.cache, tokens_per_pack=scoring.tokens_per_pack, precision=scoring.dtype)
        for model in loop.reward_models
    ]


def _mixed(loop: Loop, implicit: np.ndarray, model: np.ndarray, own: float, other: float) -> np.ndarray:
    """``model`` alone, or (1 - w) * implicit / own + w * model / other: both in standard deviations of their own."""
    scoring = loop.config.scoring
    if scoring.reward == "model":
        return model
    return (1 - scoring.reward_weight) * implicit / own + scoring.reward_weight * model / other


def _scale(values: np.ndarray) -> float:
    """The standard deviation; 1 if it is 0."""
    return float(values.std()) or 1.0 if len(values) else 1.0


def _scale_within(groups: Usable, values: np.ndarray) -> float:
    """The standard deviation of the differences from the mean of each prompt; 1 if it is 0."""
    parts = [values[group] - values[group].mean() for group in groups if len(group)]
    return _scale(np.concatenate(parts)) if parts else 1.0
