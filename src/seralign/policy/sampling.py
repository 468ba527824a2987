"""Sampling responses from a policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from seralign.errors import ModelError
from seralign.policy.decoding import Draw
from seralign.policy.draws import draw, uniforms
from seralign.policy.linear_alignment import aligned_logits, decode_aligned
from seralign.policy.ways import sample_ids
from seralign.records import Candidate, Prompt

_KNOWN: WeakKeyDictionary[PreTrainedTokenizerBase, frozenset[int]] = WeakKeyDictionary()


@dataclass(frozen=True)
class SamplingParams:
    """The distribution to sample from: ``samples`` responses a prompt, of at most ``max_new_tokens`` tokens."""

    samples: int
    temperature: float
    top_p: float
    max_new_tokens: int


def sample(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    params: SamplingParams,
    end_tokens: frozenset[int],
    seed: int,
    watch: Callable[[Tensor], None] | None = None,
) -> list[Candidate]:
    """Sample responses to a batch of prompts.

    The generation settings that a model was published with (top-k, penalties ...) do not apply. Only the temperature
    and the nucleus do. Ids without a token in the tokenizer, which padded embeddings often have, are never sampled. A
    response's random numbers depend only on the seed, the prompt's id and the response's index, so other prompts in
    the batch change nothing but rounding.

    The model is sampled in the fastest correct way (``seralign.policy.ways``).

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        prompts: A batch.
        params: The distribution.
        end_tokens: Ids that end a response.
        seed: Seed of all random numbers.
        watch: Called with the tokens [R] of each step; responses that have ended may still be among them.

    Returns:
        ``params.samples`` candidates a prompt, in the order of the prompts. The ids of a finished response include
        its end-of-sequence token.

    Raises:
        ModelError: the model's logits are NaN or infinite.
    """
    choose = _chooser(tokenizer, params.temperature, params.top_p, watch)
    chances = uniforms(seed, [prompt.prompt_id for prompt in prompts], params.samples, params.max_new_tokens)
    sampled_RN = sample_ids(model, [prompt.ids for prompt in prompts], chances, choose, end_tokens)
    return _candidates(tokenizer, prompts, params.samples, sampled_RN, end_tokens)


def sample_aligned(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    without: Sequence[Sequence[int]],
    step: float,
    params: SamplingParams,
    end_tokens: frozenset[int],
    seed: int,
    watch: Callable[[Tensor], None] | None = None,
) -> list[Candidate]:
    """``sample`` with Linear Alignment (``policy/linear_alignment.py``).

    Args:
        model: A causal language model that ``ways.check_shared`` accepts.
        tokenizer: Its tokenizer.
        prompts: A batch; its ids contain the principle.
        without: The ids of the same prompts without the principle.
        step: Size of the step.
        params: The distribution. The nucleus is that of the distribution with the principle.
        end_tokens: Ids that end a response.
        seed: Seed of all random numbers.
        watch: Called with the tokens [R] of each step.

    Raises:
        ModelError: the model's logits are NaN or infinite.
    """
    choose = _chooser(tokenizer, params.temperature, 1.0, watch)
    chances = uniforms(seed, [prompt.prompt_id for prompt in prompts], params.samples, params.max_new_tokens)
    ids = [prompt.ids for prompt in prompts]
    known = known_ids(tokenizer)

    def combine(with_RV: Tensor, without_RV: Tensor) -> Tensor:
        both = (_known_alone(with_RV, known), _known_alone(without_RV, known))
        return aligned_logits(*both, step, params.temperature, params.top_p)

    sampled_RN = decode_aligned(model, ids, without, chances, combine, choose, end_tokens)
    return _candidates(tokenizer, prompts, params.samples, sampled_RN, end_tokens)


def _candidates(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    samples: int,
    sampled_RN: Tensor,
    end_tokens: frozenset[int],
) -> list[Candidate]:
    candidates = []
    for row, ids in enumerate(sampled_RN.tolist()):
        length = next((at + 1 for at, token in enumerate(ids) if token in end_tokens), None)
        response = ids[:length]
        if min(response) < 0:
            raise ModelError("the policy's logits are not finite, so it cannot be sampled; has its training diverged?")
        candidates.append(
            Candidate(
                prompt_id=prompts[row // samples].prompt_id,
                index=row % samples,
                text=str(tokenizer.decode(response, skip_special_tokens=True)),
                ids=tuple(response),
                finished=length is not None,
            )
        )
    return candidates


def _chooser(
    tokenizer: PreTrainedTokenizerBase, temperature: float, top_p: float, watch: Callable[[Tensor], None] | None
) -> Draw:
    choose = partial(_draw_known, known=known_ids(tokenizer), temperature=temperature, top_p=top_p)
    return choose if watch is None else partial(_watched, choose, watch)


def _watched(choose: Draw, watch: Callable[[Tensor], None], logits_RV: Tensor, uniform_R: Tensor) -> Tensor:
    token_R = choose(logits_RV, uniform_R)
    watch(token_R)
    return token_R


def known_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids that a tokenizer has a token for; only these are sampled."""
    if tokenizer not in _KNOWN:
        _KNOWN[tokenizer] = frozenset(tokenizer.get_vocab().values())
    return _KNOWN[tokenizer]


def _draw_known(
    logits_RV: Tensor, uniform_R: Tensor, known: frozenset[int], temperature: float, top_p: float
) -> Tensor:
    """``draw`` restricted to ids that have a token."""
    return draw(_known_alone(logits_RV, known), uniform_R, temperature, top_p)


def _known_alone(logits_RV: Tensor, known: frozenset[int]) -> Tensor:
    """The logits with minus infinity for ids without a token."""
    absent_A = _absent(known, logits_RV.shape[1], logits_RV.device)
    return logits_RV.index_fill(1, absent_A, -torch.inf) if len(absent_A) else logits_RV


@lru_cache(maxsize=8)
def _absent(known: frozenset[int], size: int, device: torch.device) -> Tensor:
    """The ids [A] below ``size`` without a token. Cached, so that sampling does not copy them at every step."""
    return torch.tensor([number for number in range(size) if number not in known], dtype=torch.long, device=device)
