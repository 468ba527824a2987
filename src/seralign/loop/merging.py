"""Merging an adapter into its base: a whole model that anything opens, checked against the two that it came from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seralign.config import PolicyConfig
from seralign.errors import ModelError, StoreError, brief
from seralign.files import disk_errors
from seralign.loop.saved import SavedPolicy
from seralign.policy.adapters import merged
from seralign.policy.admission import model_settings, positions
from seralign.policy.forward import has_virtual_tokens, inner_model
from seralign.policy.identity import PolicySource, weights_digest
from seralign.policy.load import load_model, load_tokenizer
from seralign.policy.quiet import quiet_transformers

# What belongs to a run or to a stage rather than to the model.
LEFT_BEHIND = ("stage.json", "README.md", "*.bin", "*.partial", ".*")
_SEQUENCES, _LENGTH = 4, 12
# Nats that the rounding of the merged weights may move the log-probability of a likely token by, on average.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}


@dataclass(frozen=True)
class Merged:
    """What came of a merge.

    Args:
        dtype: Data type of the weights, the base's.
        tokens: Tokens whose log-probabilities were compared, in float32.
        difference: Their mean distance from those of base and adapter, in nats.
        change: Mean distance of the base's alone, in nats: what the adapter does.
    """

    dtype: str
    tokens: int
    difference: float
    change: float

    @property
    def loses(self) -> bool:
        """Whether rounding took half of what the adapter does, or more."""
        return self.change > 0 and self.difference > self.change / 2


def write_whole(policy: SavedPolicy, folder: Path, card: Callable[[str], str]) -> Merged | None:
    """Write a policy as a whole model: weights, tokenizer, chat template, generation settings, card.

    The folder is there when all of it is written and checked, or not at all.

    Args:
        policy: An adapter on its base, which is merged; or a whole model, which is copied.
        folder: Must not exist, or be empty.
        card: Makes the model card from the digest of the weights.

    Returns:
        What came of the merge; None where nothing was to merge.

    Raises:
        StoreError: the folder holds something, or cannot be written.
        ModelError: the adapter cannot be merged, or the merged model is not what base and adapter are.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} is there already; give another folder (--out)")
    part = folder.absolute().with_name(folder.absolute().name + ".partial")
    with disk_errors(folder):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            found = None
            if policy.source.adapter is None:
                ignore = shutil.ignore_patterns(*LEFT_BEHIND)
                shutil.copytree(policy.source.model, part, ignore=ignore, dirs_exist_ok=True)
            else:
                found = _merge(policy, part)
            load_tokenizer(policy.source, policy.loading).save_pretrained(part)
            (part / "README.md").write_text(card(weights_digest(PolicySource(str(part)))), encoding="utf-8")
            if folder.exists():
                folder.rmdir()
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return found


def _merge(policy: SavedPolicy, folder: Path) -> Merged:
    # The adapter is added in float32 and rounded once, and the comparison sees nothing but that rounding.
    model = load_model(policy.source, policy.loading, "float32")
    stored: Any = model_settings(PolicySource(policy.source.model), policy.loading).dtype
    dtype = stored if isinstance(stored, torch.dtype) and stored in _TOLERANCE else torch.float32
    if has_virtual_tokens(model):
        raise ModelError(f"{policy.source.adapter}: this adapter adds tokens, not weights, so it cannot be merged")
    ids = _some_ids(model)
    own = _logps(model, ids)
    likely = own.argmax(dim=-1, keepdim=True)
    own = own.gather(-1, likely)
    with model.disable_adapter():  # pyright: ignore[reportCallIssue]
        base = _logps(model, ids).gather(-1, likely)
    try:
        whole = merged(model)
    except (AttributeError, ValueError, NotImplementedError, TypeError) as error:
        raise ModelError(f"{policy.source.adapter}: this adapter cannot be merged: {brief(error)}") from None
    with quiet_transformers():
        whole.to(dtype=dtype).save_pretrained(folder)  # pyright: ignore
    del model, whole
    again = load_model(PolicySource(str(folder)), _alone(policy.loading), "float32")
    found = _logps(again, ids).gather(-1, likely)
    difference, change = (float((other - own).abs().mean()) for other in (found, base))
    if not difference <= _TOLERANCE[dtype]:
        raise ModelError(
            f"{policy.name}: the merged model is not base and adapter together: log-probabilities of {own.numel()} "
            f"tokens differ by {difference:.3g} nats on average ({dtype} weights); nothing was written"
        )
    return Merged(str(dtype).removeprefix("torch."), own.numel(), difference, change)


def _alone(loading: PolicyConfig) -> PolicyConfig:
    return replace(loading, adapter=None, lora=None)


def _some_ids(model: nn.Module) -> Tensor:
    settings = inner_model(model).config
    length, size = min(_LENGTH, positions(settings)), settings.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, size, (_SEQUENCES, length), generator=generator)
    return ids.to(next(model.parameters()).device)


@torch.no_grad()
def _logps(model: nn.Module, ids: Tensor) -> Tensor:
    """[sequences, tokens, vocabulary] log-probabilities of the next token."""
    return model(input_ids=ids, use_cache=False).logits.float().log_softmax(dim=-1).cpu()
