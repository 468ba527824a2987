"""What a run that trains a reward model cannot honour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seralign.errors import ConfigError

if TYPE_CHECKING:
    from seralign.config.run import RunConfig


def check_reward_run(config: RunConfig) -> None:
    """Refuse settings that have no meaning for a reward model.

    Raises:
        ConfigError: names the key, and what would be right.
    """
    name, evaluation = config.objective.name, config.evaluation
    if config.rounds > 1:
        raise ConfigError(f"rounds: {name} trains a reward model, which is trained in one round; set rounds: 1")
    if config.crossfit is not None:
        raise ConfigError(f"crossfit: it reviews labels by copies of a policy, and {name} trains none; remove crossfit")
    answers = [key for key in ("prompts", "token_pairs") if getattr(evaluation, key)]
    if answers:
        raise ConfigError(
            f"evaluation.{answers[0]}: a reward model ({name}) answers no prompts and has no log-probabilities; set "
            "evaluation: {prompts: 0, token_pairs: 0}"
        )
    given = {
        "evaluation.scorer": evaluation.scorer,
        "evaluation.judge": evaluation.judge,
        "evaluation.baseline": evaluation.baseline or None,
        "data.prompts": config.data.prompts,
        "data.heldout_prompts": config.data.heldout_prompts,
        "reference.model": config.reference.model,
        "reference.update": None if config.reference.update == "never" else config.reference.update,
    }
    for key, value in given.items():
        if value is not None and config.world is None:
            raise ConfigError(f"{key}: {name} trains a reward model, which has no reference and no answers; remove it")
    if config.sft is not None and config.policy.lora is not None:
        raise ConfigError(
            "sft: with policy.lora, the adapter of a language model would be trained as that of a reward model; train "
            "the supervised policy in a run of its own, and give it as policy.model and policy.adapter"
        )
