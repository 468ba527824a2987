"""What a run cannot honour that makes all of its pairs itself: online DPO, SPIN and SAPO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seralign.config.rounds import SelectionConfig
from seralign.errors import ConfigError

if TYPE_CHECKING:
    from seralign.config.bootstrap import BootstrapConfig
    from seralign.config.run import RunConfig


def check_self_play(config: RunConfig) -> None:
    """Refuse settings that have no meaning where every round trains on newly made pairs alone.

    Raises:
        ConfigError: names the key, and what would be right.
    """
    bootstrap = config.bootstrap
    assert bootstrap is not None
    method = bootstrap.method
    if not config.objective.compares:
        raise ConfigError(
            f"bootstrap.method: {method} trains on pairs, and {config.objective.name} compares no responses; set "
            "objective.name: dpo or another objective of pairs"
        )
    if config.crossfit is not None:
        raise ConfigError(f"crossfit: it reviews offline pairs, and bootstrap.method: {method} has none; remove it")
    if config.selection != SelectionConfig():
        raise ConfigError(
            f"selection: it is of offline pairs, and bootstrap.method: {method} trains on none; remove it, or set "
            "bootstrap.selection"
        )
    if config.evaluation.baseline and config.data.pairs is None and config.world is None:
        raise ConfigError(
            "evaluation.baseline: it is trained on offline pairs, and there are none; give data.pairs, or remove it"
        )
    if config.scoring.min_accuracy is not None:
        raise ConfigError(
            f"scoring.min_accuracy: it is of margins that select offline pairs, and bootstrap.method: {method} selects "
            "none; remove it"
        )
    if bootstrap.demonstrated:
        if config.data.prompts is not None and config.data.pairs is None and config.world is None:
            raise ConfigError(
                f"data.prompts: with bootstrap.method: {method} the prompts of data.demonstrations are asked; remove it"
            )
        _check_demonstrated(config, bootstrap)
    else:
        _check_online(config, bootstrap)


def ranks_by_policies(config: RunConfig) -> bool:
    """Whether implicit rewards rank the responses of online rounds.

    Without ``reference.model``, the policy of round 1 is its own reference, and all its implicit rewards are 0.
    """
    bootstrap, reward = config.bootstrap, config.scoring.reward
    if bootstrap is None or bootstrap.method != "online":
        return False
    return reward == "mixed" or (reward == "implicit" and config.reference.model is not None)


def _check_online(config: RunConfig, bootstrap: BootstrapConfig) -> None:
    scoring = config.scoring
    if scoring.length_correction == "offline":
        raise ConfigError(
            "scoring.length_correction: offline is fitted on offline pairs, and bootstrap.method: online has none; set "
            "within_prompt, balanced, matched or none"
        )
    if scoring.reward != "implicit" or config.reference.model is not None:
        return
    if bootstrap.labels == "reward":
        why, cure = (
            "the starting policy is its own reference, so all its implicit rewards are 0",
            ", or reference.model",
        )
        if not config.objective.uses_reference:
            why, cure = "the starting policy, without a reference, only says how likely it finds them", ""
        raise ConfigError(
            f"bootstrap.labels: reward has nothing to rank the responses of round 1 by: {why}; set scoring.reward: "
            f"model, bootstrap.labels: judge or queue{cure}"
        )
    if bootstrap.samples != 2:
        raise ConfigError(
            f"bootstrap.samples: {bootstrap.samples}: a labeller compares two responses, and nothing chooses them "
            "among more; set 2, or scoring.reward: model"
        )
    if bootstrap.query is not None and bootstrap.query.strategy == "uncertainty":
        raise ConfigError(
            "bootstrap.query.strategy: uncertainty is that of margins, and pairs that a labeller alone orders have "
            "none; set coreset or random, or scoring.reward: model"
        )
    if bootstrap.selection.rule not in ("all", "random"):
        raise ConfigError(
            f"bootstrap.selection.rule: {bootstrap.selection.rule} selects by margin, and pairs that a labeller "
            "alone orders have none; set all or random, or scoring.reward: model"
        )
    if scoring.length_correction != "none":
        raise ConfigError(
            f"scoring.length_correction: {scoring.length_correction} corrects rewards, and a labeller alone orders "
            "the pairs; set none"
        )


def _check_demonstrated(config: RunConfig, bootstrap: BootstrapConfig) -> None:
    method, scoring = bootstrap.method, config.scoring
    for key, value, only in (
        ("reward", scoring.reward, "implicit"),
        ("length_correction", scoring.length_correction, "none"),
    ):
        if value != only:
            raise ConfigError(
                f"scoring.{key}: {value} ranks sampled responses, and with bootstrap.method: {method} the "
                "demonstration is always the chosen one; remove it"
            )
    if method == "sapo":
        if bootstrap.sampling.engine == "server":
            raise ConfigError(
                "bootstrap.engine: server answers whole conversations, and bootstrap.method: sapo continues a response "
                "from its middle; set local or vllm"
            )
        return
    if config.objective.uses_reference and (config.reference.model is not None or _keeps_reference(config)):
        raise ConfigError(
            "reference: with bootstrap.method: spin the reference is the opponent, the previous round's policy; set "
            "reference: {update: each_round} without a model"
        )


def _keeps_reference(config: RunConfig) -> bool:
    return config.rounds > 1 and config.reference.update != "each_round"
