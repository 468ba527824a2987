"""Makes the trainer of a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
from torch import nn
from transformers import PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from seralign.config import RlhfConfig
from seralign.config.rlhf import GROUPED, SINGLE, Method
from seralign.errors import ConfigError, one_line
from seralign.policy.forward import inner_model
from seralign.policy.memory import is_out_of_memory
from seralign.rlhf.arguments import REFUSED
from seralign.rlhf.known_prompts import with_known_prompts
from seralign.rlhf.reward import RewardFunction
from seralign.rlhf.scoring_module import ScoringModule
from seralign.rlhf.versions import method_classes
from seralign.training.arguments import REFUSALS

# Methods whose trainer is given the reference and runs it under autocast only, without gradient. PPO's runs it without
# autocast. GRPO's and RLOO's load it themselves.
AUTOCAST_REFERENCE: tuple[Method, ...] = ("online_dpo", "xpo", "nash_md")


@dataclass(frozen=True)
class Given:
    """What every method is made of.

    Args:
        model: The policy, which is trained in place.
        reference: The folder of the reference, a whole model; None where the model has an adapter, whose start is the
            reference.
        load_reference: Loads the reference.
        load_value: Loads the value model of PPO, a policy with the head of a reward model.
        tokenizer: Of the policy.
        end_tokens: Ids that end a response.
        prompts: Token ids of the prompts by text, in the order of the run.
        reward: The reward function.
    """

    model: nn.Module
    reference: str | None
    load_reference: Callable[[], nn.Module]
    load_value: Callable[[], nn.Module]
    tokenizer: PreTrainedTokenizerBase
    end_tokens: frozenset[int]
    prompts: Mapping[str, Sequence[int]]
    reward: RewardFunction


def make_trainer(rlhf: RlhfConfig, given: Given, arguments: Any) -> Any:
    """The trainer of a method.

    Raises:
        ConfigError: TRL refuses the settings.
    """
    inner = inner_model(given.model)
    tokenizer = with_known_prompts(given.tokenizer, given.prompts, given.end_tokens)
    inner.generation_config.eos_token_id = sorted(given.end_tokens)
    _suppress_unknown(arguments, inner.get_input_embeddings().weight.shape[0], len(given.tokenizer))
    kind = _silent(method_classes(rlhf.method).trainer, given.reward)
    options: dict[str, Any] = {
        "args": arguments,
        "train_dataset": datasets.Dataset.from_dict({"prompt": list(given.prompts)}),
        "processing_class": tokenizer,
        "reward_funcs": given.reward,
    }
    if rlhf.method in SINGLE:
        scoring = ScoringModule(given.reward, {tuple(ids): text for text, ids in given.prompts.items()})
        options |= {"reward_funcs": scoring, "ref_model": given.load_reference()}
        options = _of_ppo(options, given) if rlhf.method == "ppo" else options
    elif rlhf.method in GROUPED:
        if given.reference is not None:
            # The trainer loads its reference by this name.
            inner.config._name_or_path = given.reference
    elif rlhf.method == "online_dpo":
        options["ref_model"] = given.load_reference()
    try:
        trainer = kind(model=given.model, **options)
    except REFUSALS as error:
        if is_out_of_memory(error):
            raise
        raise ConfigError(f"{REFUSED}{one_line(error)}") from None
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _of_ppo(options: dict[str, Any], given: Given) -> dict[str, Any]:
    """The options of PPO's trainer, which has other names."""
    _check_padding(options["processing_class"], given.end_tokens)
    ids = datasets.Dataset.from_dict({"input_ids": [list(ids) for ids in given.prompts.values()]})
    scoring = options.pop("reward_funcs")
    return options | {"reward_model": scoring, "value_model": given.load_value(), "train_dataset": ids}


def _check_padding(tokenizer: PreTrainedTokenizerBase, end_tokens: frozenset[int]) -> None:
    """Refuse a padding token that ends responses: PPO would leave it out of the loss.

    Raises:
        ConfigError: the tokenizer has no other.
    """
    if tokenizer.pad_token_id in end_tokens:
        raise ConfigError(
            f"policy.tokenizer: ppo needs a padding token that ends no response, and {tokenizer.pad_token!r} does; set "
            "another one in the tokenizer (pad_token), or rlhf.method: grpo"
        )


def _suppress_unknown(arguments: Any, rows: int, tokens: int) -> None:
    """Sample no ids beyond the tokenizer, for which a padded embedding has rows."""
    if rows > tokens and hasattr(arguments, "generation_kwargs"):
        own = dict(arguments.generation_kwargs or {})
        arguments.generation_kwargs = {"suppress_tokens": list(range(tokens, rows))} | own


def _silent(kind: Any, reward: RewardFunction) -> Any:
    """A trainer that logs the figures of the reward function, and neither reports its use nor writes model cards."""

    def log(self: Any, logs: dict[str, float], start_time: float | None = None) -> None:
        logs.update(reward.take())
        kind.log(self, logs, start_time)

    return type(
        kind.__name__,
        (kind,),
        {"log": log, "_send_telemetry": lambda self: None, "create_model_card": lambda self, *_, **__: None},
    )
