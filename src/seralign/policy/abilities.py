"""What an architecture supports: packed rows, and an output layer that is computed in chunks or at some places alone.

Both are tried on a few tokens when a model is first used, and compared with a plain forward pass. An unknown
architecture is slow at worst, never wrong.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from seralign.config import PolicyConfig
from seralign.errors import ModelError, one_line
from seralign.policy.attention import PACKED
from seralign.policy.forward import end_rewards, has_virtual_tokens, inner_model, is_reward_model, token_logps
from seralign.policy.identity import PolicySource
from seralign.policy.packing import pack_sequences, pad_sequences
from seralign.policy.settings import model_settings
from seralign.policy.sharding import computes_in
from seralign.progress import say_once

_ALL_LOGITS = "the logits of all tokens are computed at once, not in chunks"
_LAYERS = {"full_attention", "sliding_attention"}
# Tokens for the trial: two prompts, one of them with two responses.
_PROBE = [([5, 3], [7, 1, 4]), ([2, 6, 3], [4, 4]), ([5, 3], [2, 7, 7, 5])]
# A text, and the number of tokens before the changed ones. A causal model predicts these tokens the same.
_TEXT, _EARLY = (5, 3, 7, 1, 4, 2), 4
# Largest change of a prediction that rounding explains, as a share of the change that an earlier token makes.
_LEAK = 0.02
# Largest difference between two correct computations of a log-probability, in nats and relative to its size.
_ROUNDING = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 0.004, torch.bfloat16: 0.02}


@dataclass(frozen=True)
class Abilities:
    """What a model supports.

    Args:
        attention: Attention implementation that the model was loaded with; None if it is not a transformers model.
        longest: Tokens of the longest sequence in a packed row; 0 if the model cannot take packed rows.
        own_head: Whether the model must compute the logits of all tokens itself; of a reward model, whether it must
            choose the place of its score itself.
    """

    attention: str | None
    longest: int
    own_head: bool


_KNOWN: WeakKeyDictionary[nn.Module, Abilities] = WeakKeyDictionary()
_CHOSEN: WeakSet[nn.Module] = WeakSet()
_CAUSAL: WeakSet[nn.Module] = WeakSet()


def abilities(model: nn.Module) -> Abilities:
    """What a loaded model supports. Tried once for each model; logs what is not supported.

    Raises:
        ModelError: the model attends to later tokens, or has an adapter with virtual tokens.
    """
    inner = inner_model(model)
    if has_virtual_tokens(model):
        raise ModelError(
            "an adapter with virtual tokens (prompt or prefix tuning) cannot be scored or trained; use LoRA"
        )
    if inner not in _KNOWN:
        is_known = isinstance(inner, PreTrainedModel)
        _KNOWN[inner] = _find_out(model, inner) if is_known else Abilities(None, 0, own_head=True)
    return _KNOWN[inner]


@torch.no_grad()
def check_causal(model: nn.Module) -> None:
    """Check that a model is causal: later tokens must not change earlier logits. Tried once for each loaded model.

    Raises:
        ModelError: the model attends to later tokens.
    """
    inner = inner_model(model)
    if inner in _CAUSAL or not isinstance(inner, PreTrainedModel):
        return
    embedding: Any = inner.get_input_embeddings()
    rows, device = embedding.weight.shape[0], next(inner.parameters()).device
    ids_3T = torch.tensor([_TEXT] * 3, device=device)
    ids_3T[1, _EARLY:] += 1
    ids_3T[2, 0] += 1
    ids_3T %= rows
    with torch.autocast(device.type, enabled=False):
        plain, later, earlier = _early(model, ids_3T)
    moved, scale = (later - plain).abs().max(), (earlier - plain).abs().max()
    if moved > _LEAK * scale + 1e-6:
        raise ModelError(
            f"{type(inner).__name__} attends to later tokens (they change an earlier prediction by {moved:.2g} nats); "
            "a causal language model is needed"
        )
    _CAUSAL.add(inner)


def _early(model: Any, ids_3T: Tensor) -> Tensor:
    """What each of three texts says at its early place: [3, V] log-probabilities, or [3, 1] rewards."""
    if is_reward_model(inner_model(model)):
        ends = torch.arange(3, device=ids_3T.device) * ids_3T.shape[1] + _EARLY - 1
        mask = torch.ones_like(ids_3T)
        return end_rewards(model, ids_3T, mask, ends, own_attention=None, own_head=False)[:, None]
    output = model(input_ids=ids_3T, attention_mask=torch.ones_like(ids_3T), use_cache=False, return_dict=True)
    return output.logits[:, _EARLY - 1].float().log_softmax(dim=-1).clamp(min=-1e4)


def keep_attention(model: nn.Module) -> None:
    """Never pack rows for this model, because the user chose its attention implementation."""
    _CHOSEN.add(inner_model(model))


def packed_length(source: PolicySource, config: PolicyConfig, families: Any = MODEL_FOR_CAUSAL_LM_MAPPING) -> int:
    """Tokens of the longest sequence in a packed row of a model, judged from its settings without its weights.

    Args:
        source: The model.
        config: How it is loaded.
        families: The class of the model by the class of its settings: ``Head.families``.
    """
    settings = model_settings(source, config)
    found: Any = families.get(type(settings), None)
    model_class = found[0] if isinstance(found, tuple) else found
    return 0 if config.attention is not None or model_class is None else _packed_length(model_class, settings)[0]


def _packed_length(model_class: type, config: PretrainedConfig) -> tuple[int, str]:
    """The longest sequence in a packed row; or 0 and the reason."""
    text = config.get_text_config()
    layers = set(getattr(text, "layer_types", None) or ()) - _LAYERS
    if layers:
        return 0, f"its layers are of an unsupported type ({', '.join(sorted(layers))})"
    if not getattr(model_class, "_supports_attention_backend", False):
        return 0, "it does not use transformers' attention interface"
    if "position_ids" not in inspect.signature(model_class.forward).parameters:
        return 0, "it does not accept position ids"
    slides = getattr(text, "use_sliding_window", True) and getattr(text, "sliding_window", None)
    return (int(slides) if slides else sys.maxsize), ""


@torch.no_grad()
def _find_out(model: nn.Module, inner: PreTrainedModel) -> Abilities:
    name: Any = inner.config._attn_implementation
    if name == PACKED:  # a copy of a model in training
        name = "sdpa" if inner._supports_sdpa else "eager"
    longest, why = (0, "policy.attention is set")
    if inner not in _CHOSEN:
        longest, why = _packed_length(type(inner), inner.config)
    was_training = inner.training
    inner.eval()
    try:
        if not is_reward_model(inner):
            check_causal(model)
        wanted = _values(model, pad_sequences, name, own_head=True)
        head = _differs(model, pad_sequences, name, wanted, own_head=False)
        if is_reward_model(inner) and head is None:
            check_causal(model)
        elif is_reward_model(inner):
            longest, why = 0, "it chooses the place of its score itself"
        packed = _differs(model, pack_sequences, name, wanted, own_head=head is not None) if longest else None
    finally:
        inner.train(was_training)
    kind = type(inner).__name__
    if head is not None:
        how = "each response is scored alone" if is_reward_model(inner) else _ALL_LOGITS
        say_once(f"{kind}: {how}: {head}")
    if packed is not None:
        longest, why = 0, packed
    if why:
        say_once(f"{kind}: sequences are padded, not packed: {why}")
    return Abilities(name, longest, head is not None)


@torch.no_grad()
def trial_values(model: nn.Module, dtype: torch.dtype) -> Tensor:
    """What a loaded model says of a few responses under autocast in a data type, in its fastest supported way."""
    able = abilities(model)
    make = pack_sequences if able.longest else pad_sequences
    return _values(model, make, able.attention, own_head=able.own_head, dtype=dtype)


def _values(
    model: Any,
    make: Callable[..., dict[str, Tensor]],
    attention: str | None,
    *,
    own_head: bool,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """What the model says of the trial's responses: log-probabilities of their tokens, or rewards.

    ``dtype``: that of autocast; None for none.
    """
    inner = inner_model(model)
    vocabulary, device = inner.config.get_text_config().vocab_size, next(inner.parameters()).device
    sequences = [tuple([token % vocabulary for token in part] for part in pair) for pair in _PROBE]
    leaves_out = {"lengths", "source", "target"} if is_reward_model(inner) else {"lengths", "ends"}
    batch: dict[str, Any] = {key: value.to(device) for key, value in make(sequences).items() if key not in leaves_out}
    compute = end_rewards if is_reward_model(inner) else token_logps
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        return compute(model, **batch, own_attention=attention, own_head=own_head).float()


def _differs(
    model: Any, make: Callable[..., dict[str, Tensor]], attention: str, wanted: Tensor, *, own_head: bool
) -> str | None:
    """Why a faster way cannot be used: its error, or that its results differ from the plain way's. None if it can."""
    close = _ROUNDING[computes_in(model)]
    try:
        found = _values(model, make, attention, own_head=own_head)
    except Exception as error:  # unknown code can fail in any way
        return f"{type(error).__name__}: {one_line(error)}"
    return None if torch.allclose(found, wanted, rtol=close, atol=close) else f"the {_what(model)} would differ"


def _what(model: nn.Module) -> str:
    return "rewards" if is_reward_model(inner_model(model)) else "log-probabilities"
