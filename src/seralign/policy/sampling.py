"""Sampling responses from a policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

from seralign.errors import ModelError
from seralign.policy.decoding import Draw, decode, pad_left, why_not_shared
from seralign.policy.draws import batch_seed, draw, uniforms
from seralign.policy.forward import inner_model
from seralign.progress import say_once
from seralign.records import Candidate, Prompt


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

    The sampling settings that a model was published with (top-k, penalties ...) do not apply: what is sampled is
    the policy at the given temperature and nucleus. The same seed and prompts give the same responses. Where the
    model's cache can be shared (``decoding.why_not_shared``), the random numbers of a response depend on the seed, the
    prompt's id and the response's index alone, so that other prompts beside it change nothing but rounding. Other
    models are sampled by transformers' ``generate``, and the user is told.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        prompts: A batch.
        params: The distribution.
        end_tokens: Ids that end a response.
        seed: Of everything drawn.
        watch: Gets the tokens [R] of each step as they are drawn, of the responses that are still sampled; it is not
            called where ``generate`` samples.

    Returns:
        ``params.samples`` candidates a prompt, in the order of the prompts. The end-of-sequence token is the last
        of a finished response's ids.

    Raises:
        ModelError: the model's logits are no distribution (NaN or infinity).
    """
    if (reason := why_not_shared(model)) is None:
        chances = uniforms(seed, [prompt.prompt_id for prompt in prompts], params.samples, params.max_new_tokens)
        choose = partial(draw, temperature=params.temperature, top_p=params.top_p)
        if watch is not None:
            choose = partial(_watched, choose, watch)
        sampled_RN = decode(model, [prompt.ids for prompt in prompts], chances, choose, end_tokens)
    else:
        say_once(
            f"{type(inner_model(model)).__name__} is sampled by transformers' generate, which encodes a prompt once a "
            f"response: {reason}"
        )
        sampled_RN = _generate(model, prompts, params, end_tokens, seed)
    candidates = []
    for row, ids in enumerate(sampled_RN.tolist()):
        length = next((at + 1 for at, token in enumerate(ids) if token in end_tokens), None)
        response = ids[:length]
        if min(response) < 0:
            raise ModelError("the policy's logits are not finite, so nothing can be sampled from it: has it diverged?")
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


def _generate(
    model: nn.Module, prompts: Sequence[Prompt], params: SamplingParams, end_tokens: frozenset[int], seed: int
) -> Tensor:
    """[R, N or fewer] new tokens by ``generate``, the responses to a prompt one after the other."""
    device = next(model.parameters()).device
    input_ids, attention_mask = pad_left([prompt.ids for prompt in prompts])
    settings = GenerationConfig(
        do_sample=True,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=0,
        num_return_sequences=params.samples,
        max_new_tokens=params.max_new_tokens,
        eos_token_id=sorted(end_tokens),
        pad_token_id=min(end_tokens),
    )
    own_seed = batch_seed(seed, [prompt.prompt_id for prompt in prompts])
    with torch.no_grad(), _own_settings(inner_model(model), settings), _seeded(own_seed, device):
        output = model.generate(  # pyright: ignore[reportCallIssue]
            input_ids=input_ids.to(device), attention_mask=attention_mask.to(device), generation_config=settings
        )
    return output[:, input_ids.shape[1] :]


@contextmanager
def _own_settings(inner: Any, settings: GenerationConfig) -> Iterator[None]:
    # generate() fills what is unset from the model's own settings; an empty one leaves nothing to fill in.
    published = inner.generation_config
    inner.generation_config = GenerationConfig(eos_token_id=settings.eos_token_id, pad_token_id=settings.pad_token_id)
    try:
        yield
    finally:
        inner.generation_config = published


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
