"""Checks the answers of a user's engine, and reports its exceptions as errors of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from seralign.errors import ConfigError
from seralign.plugins import plugin_errors
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

    def __init__(self, sampler: Sampler, key: str, name: str) -> None:
        self._sampler, self._key, self._name = sampler, key, name
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
                self._check(request, candidates)
                yield request, candidates
        if waiting:
            raise self._wrong(f"{len(waiting)} requests have no answer")

    def _check(self, request: Request, candidates: list[Candidate]) -> None:
        samples = request.params.samples
        wanted = [(prompt.prompt_id, index) for prompt in request.prompts for index in range(samples)]
        if [(candidate.prompt_id, candidate.index) for candidate in candidates] != wanted:
            raise self._wrong(
                f"a request for {samples} responses to each of {len(request.prompts)} prompts needs {len(wanted)} "
                f"candidates in the order of the prompts and of their index, got {len(candidates)}"
            )
        for candidate in candidates:
            if not 0 < len(candidate.ids) <= request.params.max_new_tokens:
                raise self._wrong(
                    f"a response must have 1 to max_new_tokens = {request.params.max_new_tokens} ids, "
                    f"got {len(candidate.ids)}"
                )
            if candidate.finished != (candidate.ids[-1] in request.end_tokens):
                raise self._wrong("finished must be true where, and only where, the last id is an end token")

    def _attribute(self, name: str, kind: type) -> Any:
        value = getattr(self._sampler, name, None)
        if not isinstance(value, kind):
            raise self._wrong(f"{name} must be of type {kind.__name__}, got {value!r}")
        return value

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(f"{self._key}: {self._name}: {what}")
