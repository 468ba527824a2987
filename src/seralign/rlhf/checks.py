"""Checks the settings of a method before any work, by a step of TRL's trainer on a model of a few weights.

TRL reads some settings only when it makes the trainer, or in the first step, such as ``loss_type``.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from seralign.config import RlhfConfig, TrainingConfig
from seralign.config.rlhf import GROUPED
from seralign.config.values import shown
from seralign.errors import ConfigError, brief
from seralign.policy.quiet import quiet_transformers
from seralign.rlhf.arguments import REFUSED, Batch, method_arguments
from seralign.rlhf.reward import RewardFunction, Rewards
from seralign.rlhf.train import run_trainer
from seralign.rlhf.trainers import Given, make_trainer
from seralign.rlhf.versions import method_classes
from seralign.training.arguments import check_rates

# Tokens of a prompt, in bits, and of the window of the model.
_LONGEST, _WINDOW = 31, 64
# What TRL and transformers raise for a value that they cannot use. An index is out of range for token ids that the
# small vocabulary lacks, which says nothing about the policy's.
_REFUSALS = (ValueError, TypeError, NotImplementedError, AttributeError, KeyError, ImportError)
# Settings with which responses are sampled elsewhere, or in a cache of all the memory.
_OTHER_ENGINES = ("use_vllm", "use_transformers_paged", "use_transformers_continuous_batching")
# Of the largest tokenizers in use, so that token ids in ``generation_kwargs`` exist.
_ROWS = 2**18
_WORDS = ("<eos>", "<pad>", "a", "b")


def check_rlhf(rlhf: RlhfConfig, training: TrainingConfig) -> None:
    """Check the settings with TRL before any work. With ``rlhf.extra``, this takes about a second.

    Raises:
        ConfigError: the installed TRL does not have the method, or refuses a setting; names the key.
    """
    steps = training.max_steps or 1000
    own = rlhf.prompts_per_pass or training.batch_size
    batch = Batch(steps, own, training.batch_size // own)
    try:
        method_arguments(rlhf, training, batch, Path("unused"), seed=0, longest_prompt=1)
    except ConfigError as error:
        if not rlhf.extra or not str(error).startswith(REFUSED):
            raise
    _check_extra(rlhf, training)
    check_rates(training, steps, "training")


def _check_extra(rlhf: RlhfConfig, training: TrainingConfig) -> None:
    if not rlhf.extra or any(rlhf.extra.get(name) for name in _OTHER_ENGINES):
        return
    together = _refusal(rlhf, training)
    # A failure without these settings is not theirs.
    if together is None or _refusal(replace(rlhf, extra={}), training) is not None:
        return
    for name, value in sorted(rlhf.extra.items()):
        one = {name: value}
        why = together if one == rlhf.extra else _refusal(replace(rlhf, extra=one), training)
        if why is not None:
            raise ConfigError(f"rlhf.extra.{name}: TRL refuses {shown(value)}: {why}{_allowed(rlhf, name)}")
    raise ConfigError(f"rlhf.extra: TRL refuses these settings together: {together}")


def _allowed(rlhf: RlhfConfig, name: str) -> str:
    """The values that TRL's own description of a setting lists."""
    kind = method_classes(rlhf.method).settings
    described = next(field.metadata for field in fields(kind) if field.name == name)
    if "choices" in described:
        return f"; allowed: {', '.join(map(str, described['choices']))}"
    found = re.search(r"Supported values are ('[^.:]*)\.", described.get("help", ""))
    return f"; allowed: {found[1]}" if found else ""


def _refusal(rlhf: RlhfConfig, training: TrainingConfig) -> str | None:
    """What TRL says against the settings in a training of one step, or None."""
    passes = training.batch_size // (rlhf.prompts_per_pass or training.batch_size)
    batch = Batch(1, min(2, rlhf.prompts_per_pass or training.batch_size), min(2, passes))
    small = replace(rlhf, samples=2 if rlhf.method in GROUPED else None, max_new_tokens=2, track=[])
    plain = replace(training, report_to=[])
    with tempfile.TemporaryDirectory() as scratch, quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            arguments = method_arguments(small, plain, batch, Path(scratch), seed=0, longest_prompt=_LONGEST)
            trainer = make_trainer(small, _given(Path(scratch) / "model", _prompts(small, batch)), arguments)
            run_trainer(trainer, small, None)
            if not trainer.state.global_step:
                return "the trainer takes no step"
        except ConfigError as error:
            return str(error).removeprefix(REFUSED)
        except _REFUSALS as error:
            return brief(error)
    return None


def _prompts(rlhf: RlhfConfig, batch: Batch) -> list[str]:
    """As many different prompts as are sampled together, or as a step has."""
    passes = max(batch.accumulation, rlhf.extra.get("steps_per_generation") or 0)
    return [" ".join(_WORDS[-1 - int(digit)] for digit in f"{number:b}") for number in range(batch.prompts * passes)]


def _given(folder: Path, prompts: list[str]) -> Given:
    """A policy of a few weights, which is its own reference, and a reward that varies."""
    words = {word: number for number, word in enumerate(_WORDS)}
    split: Any = Tokenizer(WordLevel(words, unk_token="a"))
    split.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=split, eos_token="<eos>", pad_token="<pad>", unk_token="a")
    settings = LlamaConfig(
        vocab_size=_ROWS, hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, max_position_embeddings=_WINDOW, eos_token_id=0, pad_token_id=1, bos_token_id=0,
    )  # fmt: skip
    settings.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(settings)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    def reward(prompts: list[str], responses: list[str]) -> np.ndarray:
        return np.arange(len(responses), dtype=np.float64)

    ends = frozenset({0})
    return Given(
        model=model,
        reference=str(folder),
        load_reference=lambda: LlamaForCausalLM.from_pretrained(folder),
        load_value=lambda: LlamaForSequenceClassification(settings),
        tokenizer=tokenizer,
        end_tokens=ends,
        prompts={text: [words[word] for word in text.split()] for text in prompts},
        reward=RewardFunction(Rewards("trial", reward, {}), tokenizer, ends),
    )
