"""The work of a training on the reward of sampled responses.

Legend: B passes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seralign.config import RlhfConfig
from seralign.config.rlhf import GROUPED
from seralign.data.table_columns import column_lengths
from seralign.evaluation.reward_scorer import RewardFunction
from seralign.pipeline.forecast.work import Passes, Sampling, StageWork, Steps
from seralign.pipeline.lineage import BASE
from seralign.policy.identity import PolicySource
from seralign.rlhf.arguments import plan_batch

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast

# The section whose steps are measured.
SECTION = "rlhf"


def reward_training_work(forecast: Forecast, name: str, start: str, reference: str) -> StageWork:
    """Sampling, forward passes of the reference and the reward models, and optimizer steps.

    Each pass is padded to its longest sequence. Other scorers and judges are not counted.

    Args:
        forecast: What is known of the run.
        name: Of the stage.
        start: Role of the policy that is trained.
        reference: Role of the reference.
    """
    config, prompts = forecast.config, forecast.context.tables.prompts
    rlhf = config.rlhf
    assert rlhf is not None
    # As in the training, prompts with the same text are one.
    firsts = {text: number for number, text in reversed(list(enumerate(prompts["text"])))}
    batch = plan_batch(rlhf, config.training, len(firsts))
    samples = rlhf.responses
    lengths, passes = forecast.lengths.within(rlhf.limit), batch.steps * batch.accumulation
    own = column_lengths(prompts, "ids")[sorted(firsts.values())]
    order = np.random.default_rng(forecast.loop.seed(name)).permutation(len(own))
    order = np.resize(order, passes * batch.prompts)
    widths = own[order].reshape(passes, batch.prompts).max(axis=1)
    tokens = (widths + lengths.longest) * batch.prompts * samples
    real = (own[order].sum() + len(order) * lengths.mean) * samples
    longest = int((own.max() + lengths.longest) * samples)
    responses = passes * batch.prompts * samples
    models = [scorer.function.model for scorer in forecast.loop.reward_scorers.values()
              if isinstance(scorer.function, RewardFunction)]  # fmt: skip
    scored = Passes("scoring", responses, tokens, longest)
    has_reference = rlhf.kl_coefficient > 0
    adapted = config.policy.lora is not None or forecast.policy(start).source.adapter is not None
    base = forecast.policy(reference).source
    together = batch.accumulation if rlhf.samples_whole_steps else 1
    return StageWork(
        name,
        batch.steps,
        "steps",
        steps=Steps(
            SECTION,
            batch.steps * rlhf.updates_per_step,
            batch.accumulation,
            np.tile(tokens, rlhf.passes_per_step),
            longest=longest,
            shared=0,
            padding=max(0, int(tokens.sum() - real)) * rlhf.passes_per_step,
        ),
        passes=(scored,) * (has_reference + len(models)),
        sampling=Sampling(
            SECTION,
            np.full(passes // together, batch.prompts * together),
            widths.reshape(-1, together).max(axis=1),
            samples,
            lengths,
        ),
        loads=1 + has_reference + len(models),
        beside=_beside(forecast, rlhf, base, adapted=adapted, models=[model.source for model in models]),
        note=f"{responses} responses",
    )


def _beside(
    forecast: Forecast, rlhf: RlhfConfig, reference: PolicySource, *, adapted: bool, models: list[PolicySource]
) -> int:
    """Bytes of the models that are in memory with the policy: of PPO's value model, gradients and moments, too."""
    # An adapter is switched off for the reference.
    kept = 0 if rlhf.kl_coefficient == 0 or (adapted and rlhf.method in GROUPED) else _stored(reference)
    value = 4 * _stored(forecast.policy(BASE).source) if rlhf.method == "ppo" else 0
    return kept + value + sum(map(_stored, models))


def _stored(source: PolicySource) -> int:
    """Bytes of the stored weights of a model, and of its adapter."""
    folders = [Path(source.model)] + ([] if source.adapter is None else [Path(source.adapter)])
    return sum(file.stat().st_size for folder in folders for file in folder.glob("*.safetensors"))
