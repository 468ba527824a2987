"""Checks the answers of a user's engine, and reports its exceptions as errors of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from seralign.errors import ConfigError
from seralign.plugins import is_text, plugin_errors
from seralign.policy.sampling import known_ids
from seralign.records import Candidate
from seralign.sampling.base import Request, Sampler, Watch


class CheckedSampler:
    """A sampler that checks the answers of another sampler.

    Args:
        sampler: The engine.
        key: The configuration key that names it.
        name: The value of that key.

    Raises:
        ConfigError: a member of the contract is missing or has the wrong type; names the key.
    """

    def __init__(self, sampler: Sampler, key: str, name: str, tokenizer: PreTrainedTokenizerBase) -> None:
        self._sampler, self._key, self._name, self._tokenizer = sampler, key, name, tokenizer
        self.identity = f"{name}, {self._attribute('identity', str)}"
        self.prompts_per_request: int = self._attribute("prompts_per_request", int)
        self.in_every_process: bool = self._attribute("in_every_process", bool)
        if self.prompts_per_request < 1:
            raise self._wrong(f"prompts_per_request must be at least 1, got {self.prompts_per_request}")

    def sample(
        self, requests: Iterable[Request], watch: Watch | None = None
    ) -> Iterator[tuple[Request, list[Candidate]]]:
        """The answers of the engine, each checked before it is yielded.

        Raises:
            ConfigError: the engine failed, an answer does not belong to a request, or requests have no answer.
        """
        waiting: dict[bytes, Request] = {}

        def taken() -> Iterator[Request]:
            for request in requests:
                waiting[request.key] = request
                yield request

        with plugin_errors(self._key, self._name):
            for answer in self._sampler.sample(taken(), watch):
                request, candidates = answer
                if waiting.pop(request.key, None) is None:
                    raise self._wrong("a request is answered twice, or was never made")
                yield request, self._checked(request, candidates)
        if waiting:
            raise self._wrong(f"{len(waiting)} requests have no answer")

    def _checked(self, request: Request, candidates: list[Candidate]) -> list[Candidate]:
        samples = request.params.samples
        wanted = [(prompt.prompt_id, index) for prompt in request.prompts for index in range(samples)]
        if [(candidate.prompt_id, candidate.index) for candidate in candidates] != wanted:
            raise self._wrong(
                f"a request for {samples} responses to each of {len(request.prompts)} prompts needs {len(wanted)} "
                f"candidates in the order of the prompts and of their index, got {len(candidates)}"
            )
        return [self._of_ids(request, candidate) for candidate in candidates]

    def _of_ids(self, request: Request, candidate: Candidate) -> Candidate:
        limit, ends = request.params.max_new_tokens, request.end_tokens
        if not 0 < len(candidate.ids) <= limit:
            raise self._wrong(f"a response must have 1 to max_new_tokens = {limit} ids, got {len(candidate.ids)}")
        for token in candidate.ids:
            if not isinstance(token, int | np.integer) or isinstance(token, bool):
                raise self._wrong(f"ids must be whole numbers, got {token!r}")
            if token not in known_ids(self._tokenizer):
                raise self._wrong(f"the tokenizer has no token with the id {token}")
        ids = tuple(int(token) for token in candidate.ids)
        if not ends.isdisjoint(ids[:-1]):
            raise self._wrong(f"a response ends at its first end token, got one before the last of {len(ids)} ids")
        if candidate.finished is not (ids[-1] in ends):
            raise self._wrong("finished must be true where, and only where, the last id is an end token")
        if not is_text(candidate.text):
            raise self._wrong(f"text must be text that UTF-8 can hold, got {candidate.text!r}")
        text = str(self._tokenizer.decode(list(ids), skip_special_tokens=True))
        if self._letters(candidate.text) != self._letters(text):
            raise self._wrong(f"text must be what the ids decode to, {text[:40]!r}, got {candidate.text[:40]!r}")
        return replace(candidate, ids=ids, text=text)

    def _letters(self, text: str) -> str:
        """A text without what decoders do differently: special tokens, white space, characters that are not whole."""
        for special in (*self._tokenizer.all_special_tokens, "\ufffd"):
            text = text.replace(str(special), "")
        return "".join(text.split())

    def _attribute(self, name: str, kind: type) -> Any:
        value = getattr(self._sampler, name, None)
        if not isinstance(value, kind):
            raise self._wrong(f"{name} must be of type {kind.__name__}, got {value!r}")
        return value

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(f"{self._key}: {self._name}: {what}")
