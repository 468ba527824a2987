"""Merging an adapter into its base, with a check that the result equals base plus adapter."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from seralign.config import PolicyConfig
from seralign.errors import ModelError
from seralign.policy.adapters import merged
from seralign.policy.admission import check_mergeable
from seralign.policy.forward import has_virtual_tokens, inner_model
from seralign.policy.heads import HEADS, LANGUAGE_MODEL, REWARD, Head
from seralign.policy.identity import ADAPTER_SETTINGS, PolicySource, read_json
from seralign.policy.load import DTYPES, load_model, load_tokenizer
from seralign.policy.quiet import quiet_transformers
from seralign.policy.settings import positions

_GENERATION = "generation_config.json"
_SEQUENCES, _LENGTH = 4, 12
# Largest mean change in a likely token's log-probability that rounding the merged weights explains, in nats.
_TOLERANCE = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.2}


@dataclass(frozen=True)
class Merged:
    """Result of a merge.

    Args:
        what: What was compared: log-probabilities in nats, or the rewards of a reward model.
        dtype: Data type of the written weights.
        tokens: Number of tokens at which it was compared, in float32.
        difference: Mean absolute difference between the merged model and base plus adapter.
        change: Mean absolute difference between the base alone and base plus adapter: the adapter's effect.
    """

    what: Literal["log-probabilities", "rewards"]
    dtype: str
    tokens: int
    difference: float
    change: float

    @property
    def loses(self) -> bool:
        """Whether rounding removed half of the adapter's effect or more."""
        return self.change > 0 and self.difference > self.change / 2


def write_merged(source: PolicySource, config: PolicyConfig, folder: Path, dtype: str, name: str) -> Merged:
    """Write base and adapter as one model: weights, settings, tokenizer and the base's generation settings.

    Args:
        source: Local folders, with an adapter.
        config: How model and tokenizer are loaded.
        folder: Where to write; it is created. After an error its content is unusable.
        dtype: Data type of the weights: float32, bfloat16 or float16.
        name: Name of the policy in messages.

    Raises:
        ModelError: the adapter cannot be merged, or the merged model differs from base plus adapter.
    """
    check_mergeable(source, config)
    head = _head(source)
    # The adapter is added in float32 and rounded once, so the comparison sees only that rounding.
    model = load_model(source, config, "float32", head=head)
    if has_virtual_tokens(model):
        raise ModelError(f"{source.adapter}: this adapter adds tokens, not weights, so it cannot be merged")
    ids = _some_ids(model)
    values_of = _rewards if head is REWARD else partial(_logps, likely=_likely(model, ids))
    own = values_of(model, ids)
    with model.disable_adapter():  # pyright: ignore[reportCallIssue]
        base = values_of(model, ids)
    whole = merged(model, source)
    _save(whole.to(dtype=DTYPES[dtype]), source, config, folder, head)  # pyright: ignore
    del model, whole
    again = load_model(PolicySource(str(folder)), replace(config, adapter=None, lora=None), "float32", head=head)
    difference, change = (float((other - own).abs().mean()) for other in (values_of(again, ids), base))
    # Rewards have no unit of their own: their rounding is measured by how far they are apart.
    scale = max(1.0, float(own.std())) if head is REWARD else 1.0
    what: Literal["log-probabilities", "rewards"] = "rewards" if head is REWARD else "log-probabilities"
    if not difference <= _TOLERANCE[dtype] * scale:
        raise ModelError(
            f"{name}: the merged model differs from base plus adapter: {what} of {own.numel()} tokens "
            f"differ by {difference:.3g}{' nats' if head is not REWARD else ''} on average ({dtype} weights); nothing "
            "was written"
        )
    return Merged(what, dtype, own.numel(), difference, change)


def _head(source: PolicySource) -> Head:
    """The head that an adapter was trained with."""
    task = read_json(Path(str(source.adapter)) / ADAPTER_SETTINGS).get("task_type")
    return next((head for head in HEADS.values() if head.task == task), LANGUAGE_MODEL)


def _save(model: PreTrainedModel, source: PolicySource, config: PolicyConfig, folder: Path, head: Head) -> None:
    tokenizer = load_tokenizer(source, config)
    settings: Any = getattr(model, "generation_config", None)
    if settings is not None:
        # transformers refuses to save some published settings, so they are copied instead.
        settings._original_object_hash = hash(settings)
    if head is REWARD:
        # transformers reads the score before the padding, and the adapter does not contain the settings of its base.
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    with quiet_transformers():
        model.save_pretrained(folder)
    # They name the tokens that end a response. If the base has none, transformers would invent others.
    (folder / _GENERATION).unlink(missing_ok=True)
    own = [Path(source.model) / _GENERATION, *(Path(source.model).glob("*.py") if config.trust_remote_code else ())]
    for file in own:
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
    tokenizer.save_pretrained(folder)


def _some_ids(model: nn.Module) -> Tensor:
    settings = inner_model(model).config
    length, size = min(_LENGTH, positions(settings)), settings.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, size, (_SEQUENCES, length), generator=generator)
    return ids.to(next(model.parameters()).device)


@torch.no_grad()
def _likely(model: nn.Module, ids: Tensor) -> Tensor:
    """[sequences, tokens, 1]: the most likely next token."""
    return model(input_ids=ids, use_cache=False).logits.argmax(dim=-1, keepdim=True)


@torch.no_grad()
def _logps(model: nn.Module, ids: Tensor, likely: Tensor) -> Tensor:
    """[sequences, tokens, 1] log-probabilities of some next tokens."""
    return model(input_ids=ids, use_cache=False).logits.float().log_softmax(dim=-1).gather(-1, likely).cpu()


@torch.no_grad()
def _rewards(model: nn.Module, ids: Tensor) -> Tensor:
    """[sequences * tokens] rewards, as if a response ended at each token."""
    ends = torch.arange(ids.numel(), device=ids.device)
    return REWARD.values(model, ids, torch.ones_like(ids), ends).float().cpu()
