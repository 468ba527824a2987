"""The engine ``server``: samples from any server of the OpenAI API that serves the policy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice

from seralign.config import SamplingConfig
from seralign.config.engines import server_options
from seralign.errors import ConfigError
from seralign.progress import say
from seralign.records import Candidate
from seralign.sampling.answering import answered
from seralign.sampling.base import Request, SampledPolicy, Watch
from seralign.sampling.connecting import connect, listed_models
from seralign.sampling.fitting import make_fitting
from seralign.sampling.probe import PROMPTS, TOKENS, own_answers
from seralign.servers.client import Client, is_listed


class ServerSampler:
    """Samples from a server that the user started (``engine_options``: ``ServerConfig`` and ``ServerEngineConfig``).

    Before the first response of each sampling, the server's greedy answers to a few prompts are compared with those of
    the policy in memory. So a server with other weights, such as those of an earlier round, is an error. The random
    numbers are the server's: the same request may have another answer on another server, but what was answered is
    stored, and never asked again.
    """

    def __init__(self, policy: SampledPolicy, settings: SamplingConfig, key: str) -> None:
        self._policy, self._key = policy, f"{key}.engine_options"
        self._server, self._options = server_options(settings.engine_options, self._key)
        self._client = Client(self._server, self._key)

    @property
    def identity(self) -> str:
        """The model, and how it is asked; not its address."""
        options = self._options
        asked = f"{options.software}, prompts as {options.prompts or 'it reads them'}"
        return f"server, model {self._server.model}, {asked}, {json.dumps(options.extra_body, sort_keys=True)}"

    def check(self) -> None:
        """Say early if the server does not answer, or does not list the model. It is no error yet: a server may be
        started, or be given the policy of a later round, when it is asked for.
        """
        try:
            names = listed_models(Client(replace(self._server, retries=0), self._key), self._key)
        except ConfigError as error:
            say(f"warning: {error}")
            return
        model = self._server.model
        if names and not is_listed(model, names):
            say(f"warning: {self._key}.model: {self._server.url} lists {', '.join(names[:10])}, and not {model!r}")

    @property
    def prompts_per_request(self) -> int:
        """One: the server schedules requests by itself."""
        return 1

    @property
    def in_every_process(self) -> bool:
        """Only the main process asks."""
        return False

    def sample(
        self, requests: Iterable[Request], watch: Watch | None = None
    ) -> Iterator[tuple[Request, list[Candidate]]]:
        """See ``seralign.sampling.Sampler.sample``.

        Raises:
            ConfigError: the server cannot be reached, serves other weights, or reads other prompts.
        """
        remaining = iter(requests)
        first = list(islice(remaining, PROMPTS))
        if not first:
            return
        prompts = [request.prompts[0] for request in first]
        params = replace(first[0].params, samples=1, temperature=0.0, top_p=1.0)
        params = replace(params, max_new_tokens=min(TOKENS, params.max_new_tokens))
        own = own_answers(self._policy, prompts, params.max_new_tokens)
        way = connect(self._client, self._options, self._policy, own, self._key)
        fitting = make_fitting(self._policy.tokenizer, self._policy.end_tokens, prompts[0].messages is not None)
        yield from answered(self._client, way, fitting, chain(first, remaining), self._key)
