"""Ways to sample from a model, fastest first, and a trial that finds the fastest correct one.

The answers of some architectures depend on padding, on other rows of the batch or on how their cache is used. When a
model is first sampled, each way is compared on a few tokens with the plain way, a full forward pass for each token of
one response. The first way that agrees is used.

Legend: P prompts, R rows (responses being sampled), N new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from seralign.errors import ModelError, brief
from seralign.policy.abilities import check_causal
from seralign.policy.decoding import Draw, decode, pad_left, why_not_shared
from seralign.policy.forward import inner_model
from seralign.progress import say_once

Prompts = Sequence[Sequence[int]]
# (model, prompts, uniform numbers [R, N], draw, end tokens) to ids [R, N], as in decoding.decode.
Decode = Callable[[nn.Module, Prompts, Tensor, Draw, frozenset[int]], Tensor]

# The trial: two prompts of unequal length, two responses each. Its token ids are multiplied by a stride. The first ids
# of a vocabulary are often special tokens, on which rounding alone can change a trained bfloat16 model's answers.
_PROMPTS = ((5, 3, 7), (2, 6, 3, 1, 4, 7))
_STRIDES = (1, 997)
_ROWS, _STEPS = 4, 3
# Largest difference between two correct ways, as a share of the difference between two prompts.
_ROUNDING = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}


@dataclass(frozen=True)
class Way:
    """How rows are sampled: the loop, and which rows it samples together.

    ``group`` gives the numbers of the prompts in each batch; ``alone`` samples one response at a time.
    """

    name: str
    decode: Decode
    group: Callable[[Prompts], list[list[int]]]
    alone: bool = False


def sample_ids(
    model: nn.Module, prompts: Prompts, uniform_RN: Tensor, draw: Draw, end_tokens: frozenset[int]
) -> Tensor:
    """Sample responses in the fastest correct way; arguments and result as in ``decoding.decode``."""
    return _run(_way(model), model, prompts, uniform_RN, draw, end_tokens)


def check_shared(model: nn.Module, key: str) -> None:
    """Check that a model can be sampled from a shared cache of its prompts, which some ways of sampling need.

    Raises:
        ModelError: it cannot; the message begins with the key.
    """
    if _way(model) is not _SHARED:
        kind = type(inner_model(model)).__name__
        raise ModelError(f"{key}: responses of {kind} cannot be sampled from a cache of keys and values; leave it out")


def generate(model: nn.Module, prompts: Prompts, uniform_RN: Tensor, draw: Draw, end_tokens: frozenset[int]) -> Tensor:
    """``decode`` with transformers' ``generate``, which encodes a prompt once a response and works with any cache."""
    device = next(model.parameters()).device
    input_ids, attention_mask = pad_left(prompts)
    choose = _Choose(draw, uniform_RN, input_ids.shape[1])
    settings = GenerationConfig(
        do_sample=False,
        num_return_sequences=1,
        max_new_tokens=uniform_RN.shape[1],
        eos_token_id=sorted(end_tokens) or None,
        pad_token_id=0,  # only after the end of a row, where nothing reads it
    )
    each = len(uniform_RN) // len(prompts)
    rows = {"input_ids": input_ids, "attention_mask": attention_mask}
    inputs: Any = {name: tensor.repeat_interleave(each, dim=0).to(device) for name, tensor in rows.items()}
    with torch.no_grad(), _own_settings(inner_model(model), settings):
        model.generate(  # pyright: ignore[reportCallIssue]
            **inputs, generation_config=settings, logits_processor=LogitsProcessorList([choose])
        )
    found_RN = torch.full(uniform_RN.shape, -1)
    found_RN[:, : len(choose.tokens)] = torch.stack(choose.tokens, dim=1).cpu()
    return found_RN


@torch.no_grad()
def decode_plainly(
    model: nn.Module, prompts: Prompts, uniform_RN: Tensor, draw: Draw, end_tokens: frozenset[int]
) -> Tensor:
    """``decode`` without a cache, for prompts of equal length: a full forward pass for each token."""
    device = next(model.parameters()).device
    ids_RT = torch.tensor([list(prompt) for prompt in prompts]).repeat_interleave(len(uniform_RN) // len(prompts), 0)
    ids_RT = ids_RT.to(device)
    ends = torch.tensor(sorted(end_tokens), dtype=torch.long, device=device)
    done_R = torch.zeros(len(ids_RT), dtype=torch.bool, device=device)
    tokens_RN = torch.full(uniform_RN.shape, -1)
    for step in range(uniform_RN.shape[1]):
        token_R = draw(_logits(model, ids_RT)[:, -1], uniform_RN[:, step].to(device))
        tokens_RN[:, step] = token_R.cpu()
        done_R |= torch.isin(token_R, ends) | (token_R < 0)
        if bool(done_R.all()):
            break
        ids_RT = torch.cat([ids_RT, token_R.clamp(min=0)[:, None]], dim=1)
    return tokens_RN


def _together(prompts: Prompts) -> list[list[int]]:
    return [list(range(len(prompts)))]


def _of_equal_length(prompts: Prompts) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        groups.setdefault(len(prompt), []).append(number)
    return list(groups.values())


def _one_by_one(prompts: Prompts) -> list[list[int]]:
    return [[number] for number in range(len(prompts))]


_SHARED = Way("from a shared prompt cache", decode, _together)
_WAYS = (
    Way("with transformers' generate, which encodes a prompt once a response", generate, _together),
    Way("with transformers' generate, prompts of equal length together", generate, _of_equal_length),
    Way("with transformers' generate, one at a time", generate, _one_by_one, alone=True),
    Way("without a cache, prompts of equal length together", decode_plainly, _of_equal_length),
)
_PLAIN = Way("without a cache, one at a time", decode_plainly, _one_by_one, alone=True)
_KNOWN: WeakKeyDictionary[nn.Module, Way] = WeakKeyDictionary()


def _way(model: nn.Module) -> Way:
    """The fastest way that agrees with the plain one. Tried once for each model; logged if it is not the first."""
    inner = inner_model(model)
    if inner not in _KNOWN:
        was_training = model.training
        model.eval()
        try:
            _KNOWN[inner] = _find_out(model)
        finally:
            model.train(was_training)
    return _KNOWN[inner]


def _find_out(model: nn.Module) -> Way:
    check_causal(model)
    unshared = why_not_shared(model)
    kind = type(inner_model(model)).__name__
    reason = unshared
    for stride in _STRIDES:
        wanted_RNV, reason = _plain_logits(model, stride), unshared
        for way in (*([_SHARED] if unshared is None else []), *_WAYS):
            differs = _differs(way, model, wanted_RNV, stride)
            if differs is None:
                if way is not _SHARED:
                    say_once(f"{kind}: responses are sampled {way.name}: {reason}")
                return way
            reason = f"{way.name}, {differs}"
    say_once(f"{kind}: responses are sampled {_PLAIN.name}, which is slow: {reason}")
    return _PLAIN


def _run(
    way: Way, model: nn.Module, prompts: Prompts, uniform_RN: Tensor, draw: Draw, end_tokens: frozenset[int]
) -> Tensor:
    each = len(uniform_RN) // len(prompts)
    found_RN = torch.full(uniform_RN.shape, -1)
    for group in way.group(prompts):
        rows = [number * each + sample for number in group for sample in range(each)]
        for part in [[row] for row in rows] if way.alone else [rows]:
            own = [prompts[part[0] // each]] if way.alone else [prompts[number] for number in group]
            found_RN[part] = way.decode(model, own, uniform_RN[part], draw, end_tokens)
    return found_RN


class _Choose(LogitsProcessor):
    """Draws a token for each row and forces ``generate`` to take it."""

    def __init__(self, draw: Draw, uniform_RN: Tensor, width: int) -> None:
        self._draw, self._uniform_RN, self._width = draw, uniform_RN, width
        self.tokens: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # pyright: ignore
        uniform_R = self._uniform_RN[:, input_ids.shape[1] - self._width].to(scores.device)
        token_R = self._draw(scores, uniform_R)
        self.tokens.append(token_R)
        return torch.full_like(scores, -torch.inf).scatter(1, token_R.clamp(min=0)[:, None], 0.0)


@contextmanager
def _own_settings(inner: Any, settings: GenerationConfig) -> Iterator[None]:
    # generate() takes unset values from the model's own settings; empty settings leave nothing to take.
    published = inner.generation_config
    inner.generation_config = GenerationConfig(eos_token_id=settings.eos_token_id, pad_token_id=settings.pad_token_id)
    try:
        yield
    finally:
        inner.generation_config = published


def _logits(model: nn.Module, ids_RT: Tensor) -> Tensor:
    """Logits [R, T, V] of rows of equal length, without a cache."""
    return model(input_ids=ids_RT, attention_mask=torch.ones_like(ids_RT), use_cache=False, return_dict=True).logits


def _logps(logits: Tensor) -> Tensor:
    """Log-probabilities; a large negative number for tokens that the model rules out."""
    return logits.float().log_softmax(dim=-1).clamp(min=-1e4)


def _forced(model: nn.Module, stride: int) -> tuple[list[list[int]], list[list[int]]]:
    """The prompts of a trial, and the tokens that each row takes regardless of its logits."""
    size = inner_model(model).get_input_embeddings().weight.shape[0]
    prompts = [[stride * token % size for token in prompt] for prompt in _PROMPTS]
    return prompts, [[stride * (1 + 2 * row + 3 * step) % size for step in range(_STEPS)] for row in range(_ROWS)]


@torch.no_grad()
def _plain_logits(model: nn.Module, stride: int) -> Tensor:
    """Log-probabilities [R, N, V] of every token at every step, one row at a time."""
    device = next(model.parameters()).device
    prompts, forced = _forced(model, stride)
    found = []
    for row, tokens in enumerate(forced):
        prompt = prompts[row * len(prompts) // _ROWS]
        ids_1T = torch.tensor([[*prompt, *tokens[:-1]]], device=device)
        with torch.autocast(device.type, enabled=False):
            found.append(_logps(_logits(model, ids_1T)[0, len(prompt) - 1 :]))
    found_RNV = torch.stack(found)
    if not bool(found_RNV.isfinite().all()):
        raise ModelError("the policy's logits are not finite, so it cannot be sampled; has its training diverged?")
    return found_RNV


def _differs(way: Way, model: nn.Module, wanted_RNV: Tensor, stride: int) -> str | None:
    """Why this way cannot be used: its error, or that its logits differ from the plain way's. None if it can."""
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    prompts, forced = _forced(model, stride)
    tokens_RN = torch.tensor(forced, device=device)
    places_RN = torch.arange(_ROWS * _STEPS, dtype=torch.float64).view(_ROWS, _STEPS) / (_ROWS * _STEPS)
    found_RNV = torch.full_like(wanted_RNV, torch.nan)

    def draw(logits_RV: Tensor, uniform_R: Tensor) -> Tensor:
        place_R = (uniform_R * (_ROWS * _STEPS)).round().long()
        found_RNV.view(-1, found_RNV.shape[-1])[place_R] = _logps(logits_RV)
        return tokens_RN.view(-1)[place_R]

    try:
        with torch.autocast(device.type, enabled=False):
            _run(way, model, prompts, places_RN, draw, frozenset())
    except Exception as error:  # unknown code can fail in any way
        return f"{type(error).__name__}: {brief(error)}"
    half = _ROWS // 2
    scale = (wanted_RNV[:half] - wanted_RNV[half:]).abs().max()
    differ_R = (found_RNV - wanted_RNV).abs().amax(dim=2).mean(dim=1)
    close = _ROUNDING[dtype] * scale + 1e-6
    return None if bool((differ_R <= close).all()) else "its answers would differ"
