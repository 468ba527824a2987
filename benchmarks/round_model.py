"""The model of ``round``: the benchmarks' random Llama, with a bias that lets its responses end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.models import save_model

# The channel that carries the bias, and what every token puts into it: large beside what else an embedding holds, so
# that the bias is nearly the same everywhere, small beside what the layers add to all channels together.
_CHANNEL, _SHARED = 0, 0.3
_ROUNDS, _HALVINGS, _TOKENS = 3, 40, 80


def save_ending_model(
    folder: Path, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[list[int]], length: float
) -> int:
    """Save a random Llama whose responses end after about ``length`` tokens, and its tokenizer.

    Responses of a random model never end, and no trained one is at hand. One channel is the same for every token and
    no layer reads or writes it, so that it reaches the output layer, which is the embedding again, as it was, divided
    by a norm that hardly changes. The end token has more in this channel: a bias of its logit, about the same after
    every token. It is set so that the end token's mean probability is ``1 / length`` in responses of random tokens,
    which is what such a model writes.

    Args:
        folder: Where to.
        tokenizer: Of the model.
        prompts: Token ids of prompts to set the bias by.
        length: Mean number of tokens, the end token counted, of responses that nothing cuts.

    Returns:
        The number of parameters.
    """
    parameters = save_model(folder, tokenizer)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    end: Any = tokenizer.eos_token_id
    random = torch.Generator().manual_seed(0)
    responses = torch.randint(end + 1, model.config.vocab_size, (len(prompts), _TOKENS), generator=random)
    dialogues = list(zip(map(torch.tensor, prompts), responses, strict=True))
    embedding = model.model.embed_tokens.weight
    with torch.no_grad():
        embedding[:, _CHANNEL] = _SHARED
        for layer in model.model.layers:
            layer.input_layernorm.weight[_CHANNEL] = layer.post_attention_layernorm.weight[_CHANNEL] = 0
            layer.self_attn.o_proj.weight[_CHANNEL] = layer.mlp.down_proj.weight[_CHANNEL] = 0  # pyright: ignore
        for _ in range(_ROUNDS):  # prompts hold end tokens, which change a little with their embedding
            parts = [end_odds(model, prompt, response, end) for prompt, response in dialogues]
            odds, slope = (torch.cat(part) for part in zip(*parts, strict=True))
            embedding[end, _CHANNEL] += bias(odds, slope, 1 / length)
    model.save_pretrained(folder)
    return parameters


def bias(odds: Tensor, slope: Tensor, probability: float) -> float:
    """What, times ``slope`` [N] added to the log-odds ``odds`` [N], makes ``probability`` the mean of theirs."""
    low, high = -1e3, 1e3
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        too_likely = float((odds + middle * slope).sigmoid().mean()) > probability
        low, high = (low, middle) if too_likely else (middle, high)
    return (low + high) / 2


@torch.no_grad()
def end_odds(model: LlamaForCausalLM, prompt: Tensor, response: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """Log-odds [N] of the end token where each token of a response is predicted, and what the bias is times there."""
    ids = torch.cat([prompt, response[:-1]])[None]
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[0, len(prompt) - 1 :]
    logits = model.lm_head(hidden).double()
    of_end = logits[:, end].clone()
    logits[:, end] = -torch.inf
    return of_end - logits.logsumexp(dim=1), hidden[:, _CHANNEL].double()
