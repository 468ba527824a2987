"""Settings with which a run would fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from seralign.config import LoraConfig, PolicyConfig, RunConfig
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.plan.bench import Bench
from seralign.pipeline.plan.costs import Line
from seralign.pipeline.plan.estimate import MARGIN, Misfit, budget
from seralign.policy.identity import PolicySource
from seralign.policy.load import DTYPES
from seralign.policy.size import count_weights

# Only the bytes of a remedy count, and small steps show them.
_SECONDS = 6.0


def with_remedies(bench: Bench, found: Sequence[Misfit], work: Sequence[StageWork], memory: int) -> list[Misfit]:
    """The misfits, each with settings that help where there are any.

    For a training that no budget of tokens makes fit, other ways to train are measured.
    """
    return [misfit if misfit.settings else _remedy(bench, misfit, work, memory) for misfit in found]


def static_misfits(config: RunConfig, source: PolicySource, limit: float) -> list[Misfit]:
    """Whether weights, gradients and optimizer state alone are too large, before any of them is loaded."""
    weights = count_weights(source, config.policy)

    def needed(policy: PolicyConfig, scoring: str) -> int:
        size = weights * DTYPES[policy.dtype].itemsize
        scored = weights * DTYPES[scoring].itemsize if scoring == "float32" else size
        whole = policy.lora is None and policy.adapter is None
        state = 2 if "adam" in config.training.optimizer and "8bit" not in config.training.optimizer else 0
        # An adapter is merged in float32, whatever the policy trains in.
        merging = weights * DTYPES["float32"].itemsize if policy.merges else 0
        return max(size * (2 + state if whole else 1), scored, merging)

    policy, scoring = config.policy, config.scoring.dtype
    if needed(policy, scoring) <= limit:
        return []
    tries: list[dict[str, Any]] = [{"policy.lora": {}}] if policy.lora is None and policy.adapter is None else []
    tries += [part | {"policy.dtype": "bfloat16", "scoring.dtype": "bfloat16"} for part in (*tries, {})]
    for settings in tries:
        lora = LoraConfig() if "policy.lora" in settings else policy.lora
        other = replace(policy, lora=lora, dtype=settings.get("policy.dtype", policy.dtype))
        if needed(other, settings.get("scoring.dtype", scoring)) <= limit:
            return [Misfit("policy.model", needed(policy, scoring), settings)]
    return [Misfit("policy.model", needed(policy, scoring))]


def _remedy(bench: Bench, misfit: Misfit, work: Sequence[StageWork], memory: int) -> Misfit:
    config, section = bench.loop.config, misfit.what.split(".")[0]
    if section not in ("sft", "training"):
        return misfit
    settings = config.sft if section == "sft" else config.training
    assert settings is not None
    parts = [stage.steps for stage in work if stage.steps is not None and stage.steps.section == section]
    lean, small = replace(settings, gradient_checkpointing=True), replace(config.policy, lora=LoraConfig())
    checkpointing: dict[str, Any] = {f"{section}.gradient_checkpointing": True}
    tries = [] if settings.gradient_checkpointing else [(checkpointing, lean, config.policy)]
    if config.policy.lora is None and config.policy.adapter is None:
        tries += [({"policy.lora": {}}, settings, small), ({"policy.lora": {}} | checkpointing, lean, small)]
    for found, training, policy in tries:
        if not bench.budget.left:
            break
        costs = bench.steps(section, training, policy, memory, _SECONDS)
        tokens = budget([(costs.pack.bytes, parts), (Line(costs.whole, 0.0), parts)], MARGIN * memory)
        if tokens is not None:
            lower = {} if tokens >= settings.tokens_per_pack else {misfit.what: tokens}
            return replace(misfit, settings=found | lower)
    return misfit
