"""The engine ``vllm``: starts vLLM's server for the policy, in the environment that the configuration names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path

from seralign.config import SamplingConfig
from seralign.config.engines import vllm_options
from seralign.errors import ConfigError, brief
from seralign.policy.identity import weights_digest
from seralign.policy.load import load_model
from seralign.policy.release import free
from seralign.progress import say
from seralign.records import Candidate
from seralign.sampling.answering import answered
from seralign.sampling.base import Request, SampledPolicy, Watch
from seralign.sampling.connecting import greedy, prove
from seralign.sampling.fitting import make_fitting
from seralign.sampling.lora import AdapterRefused, adapter_name, load_adapter, server_arguments
from seralign.sampling.probe import PROMPTS, TOKENS, Own, own_answers
from seralign.sampling.vllm_server import (
    MODEL,
    address,
    check_installed,
    keeps,
    last_words,
    loads_adapters,
    python_of,
    serve,
)
from seralign.sampling.whole import whole_model
from seralign.sampling.wire import Way
from seralign.servers.client import Client
from seralign.servers.kept import Keeper
from seralign.servers.process import EndedEarly, Running

_KEEPER = Keeper()
# The base of a run does not change, and reading all of its weights takes long.
_digest_of_base = cache(weights_digest)


@dataclass(frozen=True)
class _Started:
    """What a server was started for: the digest of the weights, where they are, and the options.

    ``adapters``: arguments of a server that loads adapters.
    """

    weights: str
    source: str
    dtype: str
    options: str
    adapters: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Served:
    """A policy on a server.

    Args:
        server: The server.
        client: Asks it for the policy.
        others: Policies that it must be told apart from.
    """

    server: Running
    client: Client
    others: Sequence[SampledPolicy] = ()


# Why a server of a base was of no use: the adapters of a run are alike, so the next one is not tried.
_REFUSED: dict[_Started, str] = {}


class VllmSampler:
    """Samples from a server of vLLM that seralign starts, and stops when it cannot serve the next policy.

    The policy is served as one folder with all weights (``whole_model``). With ``adapters``, the base of a LoRA
    adapter is served and the adapter is loaded at run time, so the rounds of a run keep one server. As every server, it
    must give the log-probabilities of the policy before it is sampled from.
    """

    def __init__(self, policy: SampledPolicy, settings: SamplingConfig, key: str) -> None:
        self._policy, self._key = policy, f"{key}.engine_options"
        self._options = vllm_options(settings.engine_options, self._key)
        if self._options.adapters and not keeps(self._options):
            raise ConfigError(
                f"{self._key}.adapters needs a server that is kept. The base and the round before are loaded in this "
                "process while it runs, to tell which weights it serves, and one that is not kept may take all memory "
                "of the GPU. Give vLLM GPUs of its own (env.CUDA_VISIBLE_DEVICES), set keep to true and gpu_memory so "
                "that both fit, or set adapters to false"
            )
        python_of(self._options, self._key)
        # Checked here that openai is installed.
        Client(self._options.server("http://127.0.0.1:1/v1", MODEL), self._key)

    @property
    def identity(self) -> str:
        """Data type, GPUs, limits, arguments and environment of the server, and whether it loads an adapter."""
        options = self._options
        given = json.dumps([options.max_length, options.arguments, options.env], sort_keys=True)
        copies = f"{options.data_parallel} x {options.tensor_parallel} GPUs"
        return f"vllm, {self._dtype} weights, {copies}, {given}{', adapters' if self._loads_adapter else ''}"

    def check(self) -> None:
        """Check that the environment has vLLM, without importing it.

        Raises:
            ConfigError: it has not, or its Python does not run.
        """
        check_installed(self._options, self._key)

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
            ConfigError: the server does not start, ends, or serves other weights.
        """
        remaining = iter(requests)
        first = list(islice(remaining, PROMPTS))
        if not first:
            return
        prompts = [request.prompts[0] for request in first]
        # Before the server takes the memory.
        own = own_answers(self._policy, prompts, min(TOKENS, first[0].params.max_new_tokens))
        free()
        try:
            served = self._served(first[0].policy)
            fitting = make_fitting(self._policy.tokenizer, self._policy.end_tokens, prompts[0].messages is not None)
            with last_words(served.server):
                way = self._prove(served, own)
                yield from answered(served.client, way, fitting, chain(first, remaining), self._key)
        finally:
            if not keeps(self._options):
                _KEEPER.release()

    def _served(self, digest: str) -> _Served:
        """The policy on a server of its base, or of all its weights where that cannot be."""
        if self._loads_adapter:
            try:
                return self._on_its_base(digest, Path(str(self._policy.source.adapter)))
            except AdapterRefused as why:
                say(
                    f"{self._key}: vLLM serves {self._policy.name} with its adapter merged, because it cannot load "
                    f"{self._policy.source.adapter}: {why}"
                )
        server = _KEEPER.get(self._started(digest, str(self._policy.source)), self._serve_whole)
        return _Served(server, self._client(server, MODEL))

    def _on_its_base(self, digest: str, adapter: Path) -> _Served:
        """The policy as an adapter that is loaded onto a server of its base.

        Raises:
            AdapterRefused: vLLM cannot load it.
        """
        base = _base_of(self._policy)
        arguments = server_arguments(adapter)
        started = self._started(_digest_of_base(base.source), str(base.source), arguments)
        if started in _REFUSED:
            raise AdapterRefused(_REFUSED[started])
        try:
            server = self._start_base(started, Path(base.source.model))
            client = self._client(server, adapter_name(digest))
            with last_words(server):
                load_adapter(client, adapter, self._key)
        except AdapterRefused as why:
            _REFUSED[started] = str(why)
            raise
        before = self._policy.before
        others = [base] if before is None or before.source == base.source else [before, base]
        return _Served(server, client, others)

    def _start_base(self, started: _Started, folder: Path) -> Running:
        try:
            return _KEEPER.get(started, partial(self._serve, folder, started.adapters))
        except EndedEarly as error:
            # Not every model of vLLM takes adapters. Any other reason is an error of the next start, too.
            lines = str(error).splitlines()
            why = brief(ValueError(" ".join(dict.fromkeys([lines[0], lines[-1]]))))
            raise AdapterRefused(f"it does not start with --enable-lora ({why})") from None

    def _prove(self, served: _Served, own: list[Own]) -> Way:
        way = Way(served.client.settings.model, "vllm", "tokens")
        replies = greedy(served.client, way, self._policy, own)
        prove(served.client, way, self._policy, served.others, own, replies, self._tolerance, self._key)
        return way

    def _started(self, weights: str, source: str, adapters: tuple[str, ...] = ()) -> _Started:
        return _Started(weights, source, self._dtype, repr(self._options), adapters)

    def _client(self, server: Running, model: str) -> Client:
        return Client(self._options.server(address(server), model), self._key)

    @property
    def _loads_adapter(self) -> bool:
        return self._policy.source.adapter is not None and loads_adapters(self._options)

    @property
    def _dtype(self) -> str:
        return self._options.dtype or self._policy.dtype

    @property
    def _tolerance(self) -> float | None:
        given = self._options.tolerance
        return 0.1 if given is None and self._dtype != "float32" else given

    @contextmanager
    def _serve_whole(self) -> Iterator[Running]:
        """A server of all weights of the policy."""
        with whole_model(self._policy) as folder, self._serve(folder) as server:
            yield server

    def _serve(self, folder: Path, adapters: tuple[str, ...] = ()) -> AbstractContextManager[Running]:
        return serve(self._policy, folder, self._dtype, self._options, self._key, adapters)


def _base_of(policy: SampledPolicy) -> SampledPolicy:
    """The policy without its adapter."""
    source = replace(policy.source, adapter=None)
    loading = replace(policy.loading, adapter=None, lora=None)
    load = partial(load_model, source, loading, policy.dtype)
    return replace(policy, name=f"the base of {policy.name}", source=source, load=load, loading=loading, before=None)
