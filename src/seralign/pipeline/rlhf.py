"""The stage that trains a policy on a reward of its own responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from transformers import set_seed

from seralign.config import RlhfConfig
from seralign.config.rlhf import GROUPED
from seralign.data.table import to_prompt
from seralign.errors import ConfigError
from seralign.pipeline.context import Policy
from seralign.pipeline.forecast.rewarded import reward_training_work
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.inputs import FORWARD
from seralign.pipeline.rlhf_rewards import run_rewards
from seralign.pipeline.stage import Context
from seralign.pipeline.training import saved_digest, warn_unchanged
from seralign.policy.heads import REWARD
from seralign.records import Prompt, content_id
from seralign.rlhf.arguments import plan_batch
from seralign.rlhf.reward import RewardFunction
from seralign.rlhf.train import train_by_reward
from seralign.rlhf.trainers import AUTOCAST_REFERENCE, Given
from seralign.rlhf.versions import installed_trl
from seralign.runs.figures import TrainFigures
from seralign.runs.layout import LOGS, POLICY

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast


@dataclass(frozen=True)
class RewardTraining:
    """The stage that trains a policy by reinforcement learning, with a trainer of TRL.

    Args:
        name: Name of the stage.
        start: Role of the policy to start from.
        reference: Role of the reference.
    """

    name: str
    start: str
    reference: str

    def inputs(self, context: Context) -> dict[str, str]:
        """Prompts, both policies, the reward, all settings, and the release of TRL."""
        loop = context.loop
        inputs = {"data": context.tables.digest, "start": context.policy(self.start).digest}
        inputs |= {"reference": context.policy(self.reference).digest, "trl": str(installed_trl())}
        inputs |= {"training": content_id(asdict(loop.config.training))}
        inputs |= run_rewards(loop, {}).identity
        return inputs | loop.settings(*FORWARD, "policy.lora", "seed", "rlhf") | loop.tokenizer_inputs

    def work(self, context: Context, folder: Path) -> TrainFigures:
        """Train, and save the policy; the figures include its digest."""
        loop, rlhf, prompts = context.loop, rlhf_config(context), sampled_prompts(context)
        training = loop.config.training
        batch = plan_batch(rlhf, training, len(prompts))
        start, reference = context.policy(self.start), context.policy(self.reference)
        fresh_adapter = loop.config.policy.lora if start.source.adapter is None else None
        seed = loop.seed(self.name, "training")
        # A new adapter's weights are drawn when the model is loaded, before the trainer sets its seed.
        set_seed(seed)
        has_adapter = fresh_adapter is not None or start.source.adapter is not None
        _check_reference(rlhf, start, reference, has_adapter)
        reward = RewardFunction(run_rewards(loop, prompts), loop.tokenizer, loop.end_tokens)
        given = Given(
            model=loop.load(start, loop.config.policy.dtype, trainable=True, lora=fresh_adapter),
            reference=None if has_adapter else reference.source.model,
            load_reference=partial(
                loop.load,
                reference,
                loop.config.policy.dtype,
                scores_in=training.precision if rlhf.method in AUTOCAST_REFERENCE else None,
            ),
            load_value=partial(loop.load, start, loop.config.policy.dtype, head=REWARD),
            tokenizer=loop.tokenizer,
            end_tokens=loop.end_tokens,
            prompts={text: prompt.ids for text, prompt in prompts.items()},
            reward=reward,
        )
        done = train_by_reward(
            given,
            rlhf,
            training,
            batch,
            folder,
            seed=seed,
            label=f"{rlhf.method}, {self.name}",
            log_folder=loop.run.root / LOGS / self.name,
        )
        digest = saved_digest(loop, folder / POLICY, start)
        if not reward.says_nothing:  # which has its own warning
            warn_unchanged(self.name, digest, start, "training")
        return TrainFigures(
            steps=done.steps, pairs=len(prompts), train=done.last, heldout_first={}, heldout={}, digest=digest
        )

    def cost(self, forecast: Forecast) -> StageWork:
        """Sampling, forward passes of the reference and the reward models, and optimizer steps."""
        return reward_training_work(forecast, self.name, self.start, self.reference)


def rlhf_config(context: Context) -> RlhfConfig:
    """The section ``rlhf``, which must exist."""
    assert context.config.rlhf is not None
    return context.config.rlhf


def sampled_prompts(context: Context) -> Mapping[str, Prompt]:
    """The prompts of a run by their text; of equal texts the first."""
    found: dict[str, Prompt] = {}
    for row in context.tables.prompts:
        prompt = to_prompt(cast(dict[str, Any], row))
        found.setdefault(prompt.text, prompt)
    return found


def _check_reference(rlhf: RlhfConfig, start: Policy, reference: Policy, has_adapter: bool) -> None:
    """Refuse references that the trainer cannot have.

    Raises:
        ConfigError: with an adapter, the reference is another policy than the start.
    """
    if rlhf.method not in GROUPED or rlhf.kl_coefficient == 0.0:
        return
    if has_adapter and reference.digest != start.digest:
        raise ConfigError(
            f"reference.model: {rlhf.method} of TRL trains an adapter against the policy at its start; remove it"
        )
    if not has_adapter and reference.source.adapter is not None:
        raise ConfigError(
            f"reference.adapter: {rlhf.method} of TRL loads the reference from one folder; merge it (seralign merge)"
        )
