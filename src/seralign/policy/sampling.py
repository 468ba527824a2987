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
    chances = uniforms(seed, [prompt.prompt_id for prompt in prompts], params.samples, params.max_new_tokens)
    choose = partial(_draw_known, known=known_ids(tokenizer), temperature=params.temperature, top_p=params.top_p)
    if watch is not None:
        choose = partial(_watched, choose, watch)
    sampled_RN = sample_ids(model, [prompt.ids for prompt in prompts], chances, choose, end_tokens)
    candidates = []
    for row, ids in enumerate(sampled_RN.tolist()):
        length = next((at + 1 for at, token in enumerate(ids) if token in end_tokens), None)
        response = ids[:length]
        if min(response) < 0:
            raise ModelError("the policy's logits are not finite, so it cannot be sampled; has its training diverged?")
        candidates.append(
            Candidate(
                prompt_id=prompts[row // params.samples].prompt_id,
                index=row % params.samples,
                text=str(tokenizer.decode(response, skip_special_tokens=True)),
                ids=tuple(response),
                finished=length is not None,
            )
        )
    return candidates


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
    absent_A = _absent(known, logits_RV.shape[1], logits_RV.device)
    if len(absent_A):
        logits_RV = logits_RV.index_fill(1, absent_A, -torch.inf)
    return draw(logits_RV, uniform_R, temperature, top_p)


@lru_cache(maxsize=8)
def _absent(known: frozenset[int], size: int, device: torch.device) -> Tensor:
    """The ids [A] below ``size`` without a token. Cached, so that sampling does not copy them at every step."""
    return torch.tensor([number for number in range(size) if number not in known], dtype=torch.long, device=device)
