"""Scores of responses by a model in this process, stored by content."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from seralign.config import DataConfig, PolicyConfig
from seralign.data.content import Inputs, Unencoded
from seralign.data.tokens import Encoder
from seralign.errors import ModelError
from seralign.evaluation.judges.base import Comparison
from seralign.policy.abilities import abilities
from seralign.policy.heads import Head
from seralign.policy.identity import PolicySource, weights_digest
from seralign.policy.load import load_model, load_tokenizer
from seralign.policy.packing import make_batch
from seralign.policy.settings import model_settings, positions
from seralign.progress import bar
from seralign.records import Prompt, content_id
from seralign.rewards.texts import scored_tokens, text_encoder
from seralign.runs.results import Results, result_key

Probability = Literal["sigmoid", "sign"]
Dtype = Literal["float32", "bfloat16", "float16"]
Scored = tuple[Prompt, str]
"""A response with its prompt."""
Tokens = tuple[list[int], list[int]]
"""The tokens of a prompt, and those of a response to it."""


@dataclass(frozen=True)
class ScoringModel:
    """A model that scores responses.

    Args:
        source: Local folders.
        head: What is read: the log-probability of a response, or its reward.
        dtype: Data type of the weights.
        tokens_per_pack: Maximum number of tokens in one forward pass.
        loading: How its tokenizer and its model are loaded.
        data: How prompts became tokens in its training; None if that is not known.
        chat: Whether texts are turns of a conversation, if the tokenizer has a chat template.
    """

    source: PolicySource
    head: Head
    dtype: str
    tokens_per_pack: int
    loading: PolicyConfig = field(default_factory=PolicyConfig)
    data: DataConfig | None = None
    chat: bool = True

    @cached_property
    def digest(self) -> str:
        """Identity of the weights."""
        return weights_digest(self.source)

    @cached_property
    def identity(self) -> str:
        """Names its weights, tokenizer and chat template."""
        tokenizer = self.tokenizer
        read = [sorted(self.vocabulary.items()), tokenizer.chat_template, str(tokenizer.special_tokens_map)]
        if self.data is not None:
            read += [self.templated, self.data.system, self.data.chat_template_kwargs]
        return f"{self.digest[:16]} {content_id(read)[:16]}"

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return load_tokenizer(self.source, self.loading)

    @property
    def templated(self) -> bool:
        """Whether it reads conversations."""
        return self.chat and self.tokenizer.chat_template is not None

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """The tokens of its tokenizer."""
        return self.tokenizer.get_vocab()

    @cached_property
    def encoder(self) -> Encoder:
        """Reads prompts and responses as in training."""
        return text_encoder(self.source, self.loading, self.tokenizer, self.data if self.templated else None)


def responses_of(comparisons: Iterable[Comparison]) -> list[Scored]:
    """The responses of comparisons with their prompts, each once."""
    return list(dict.fromkeys((one.prompt, text) for one in comparisons for text in (one.first, one.second)))


def probability(difference: float, rule: str) -> float:
    """The probability that the first response is better, by the difference of the rewards."""
    if rule == "sign":
        return 0.5 if difference == 0 else float(difference > 0)
    return 1 / (1 + math.exp(-difference)) if difference >= 0 else 1 - 1 / (1 + math.exp(difference))


def score(
    model: ScoringModel, reader: ScoringModel, responses: Sequence[Scored], results: Results | None
) -> dict[Scored, float]:
    """Scores of responses. Stored ones are not computed again; each forward pass is stored at once.

    Args:
        model: The model that scores.
        reader: The model whose tokenizer and chat template make the tokens.
        responses: What is scored.
        results: Where scores are stored.

    Raises:
        DataError: a prompt cannot be read, or is too long with its response.
        ModelError: the model cannot be loaded, or a score is not finite.
    """
    tokens = tokens_of(reader, responses)
    kind = [model.head.name, model.digest, model.dtype]
    keys = {one: result_key("model score", [*kind, *tokens[one]]) for one in responses}
    stored = {} if results is None else dict(results.get(list(dict.fromkeys(keys.values()))))
    todo = {key: tokens[one] for one, key in keys.items() if key not in stored}
    if todo:
        _check_lengths(model, todo.values())
        loaded = load_model(model.source, model.loading, model.dtype, head=model.head)
        device, longest = next(loaded.parameters()).device, abilities(loaded).longest
        with bar(f"{model.head.kind} {model.source}", len(todo), "response") as line, torch.no_grad():
            for pack in _packs(todo, model.tokens_per_pack):
                made = make_batch([todo[key] for key in pack], longest)
                batch = {name: value.to(device) for name, value in made.items()}
                values = model.head.values(loaded, **batch).double().cpu().numpy()
                if not np.isfinite(values).all():
                    raise ModelError(f"{model.source}: scores that are not finite; the model is broken")
                found = dict(zip(pack, values.tolist(), strict=True))
                if results is not None:
                    results.put(found)
                stored |= found
                line.advance(len(pack))
    return {one: stored[key] for one, key in keys.items()}


def tokens_of(reader: ScoringModel, responses: Sequence[Scored]) -> dict[Scored, Tokens]:
    """The tokens of responses by a model's tokenizer and chat template.

    Raises:
        DataError: a prompt cannot be read, or is too long with its response.
    """
    read = scored_tokens(reader.encoder, [_example(reader, *one) for one in responses])
    return {one: (list(ids), list(own)) for one, (ids, own) in zip(responses, read, strict=True)}


def _example(model: ScoringModel, prompt: Prompt, response: str) -> Unencoded:
    """What the model reads: a conversation, if it has a chat template; else the prompt's text.

    A prompt of text alone that no policy has read yet (it has no token ids) is what a user says.
    """
    where = f"{model.source}: a response to the prompt {prompt.prompt_id}"
    if not model.templated or (prompt.messages is None and prompt.ids):
        return Unencoded(prompt.text, (response,), where)
    own = [{"role": "user", "content": prompt.text}] if prompt.messages is None else json.loads(prompt.messages)
    given = {} if prompt.template_inputs is None else json.loads(prompt.template_inputs)
    inputs = Inputs(
        tuple(given.get("tools", ())), tuple(given.get("documents", ())), given.get("chat_template_kwargs", {})
    )
    return Unencoded(tuple(own), (({"role": "assistant", "content": response},),), where, inputs)


def _packs(todo: dict[bytes, Tokens], budget: int) -> Iterator[list[bytes]]:
    """Keys in groups of at most so many tokens with padding, the longest first."""
    order = sorted(todo, key=lambda key: -sum(map(len, todo[key])))
    pack: list[bytes] = []
    for key in order:
        longest = sum(map(len, todo[(pack or [key])[0]]))
        if pack and longest * (len(pack) + 1) > budget:
            yield pack
            pack = []
        pack.append(key)
    if pack:
        yield pack


def _check_lengths(model: ScoringModel, sequences: Iterable[Tokens]) -> None:
    limit = positions(model_settings(model.source, model.loading))
    longest = max(len(prompt) + len(response) for prompt, response in sequences)
    if longest > limit:
        raise ModelError(f"{model.source} takes at most {limit} tokens, and a prompt with a response has {longest}")
