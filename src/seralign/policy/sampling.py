"""Sampling responses from a policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

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
) -> list[Candidate]:
    """Sample responses to a batch of prompts.

    The sampling settings that a model was published with (top-k, penalties ...) do not apply: what is sampled is
    the policy at the given temperature and nucleus. The same seed and prompts give the same responses.

    Returns:
        ``params.samples`` candidates a prompt, in the order of the prompts. The end-of-sequence token is the last
        of a finished response's ids.
    """
    device = next(model.parameters()).device
    width = max(len(prompt.ids) for prompt in prompts)
    input_ids = torch.zeros(len(prompts), width, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        input_ids[row, width - len(prompt.ids) :] = torch.tensor(prompt.ids)
        attention_mask[row, width - len(prompt.ids) :] = 1
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
    with torch.no_grad(), _own_settings(model, settings), _seeded(seed, device):
        output = model.generate(  # pyright: ignore[reportCallIssue]
            input_ids=input_ids.to(device), attention_mask=attention_mask.to(device), generation_config=settings
        )
    candidates = []
    for row, ids in enumerate(output[:, width:].tolist()):
        length = next((at + 1 for at, token in enumerate(ids) if token in end_tokens), None)
        response = ids[:length]
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


@contextmanager
def _own_settings(model: Any, settings: GenerationConfig) -> Iterator[None]:
    # generate() fills what is unset from the model's own settings; an empty one leaves nothing to fill in.
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
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
