"""The engine ``vllm``: starts vLLM's server for the policy, in the environment that the configuration names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path

import torch

from seralign.config import SamplingConfig
from seralign.config.engines import VllmConfig, vllm_options
from seralign.config.paths import expanded
from seralign.errors import ConfigError, brief
from seralign.policy.identity import SETTINGS, weights_digest
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
from seralign.sampling.whole import whole_model
from seralign.sampling.wire import Way
from seralign.servers.client import Client
from seralign.servers.kept import Keeper
from seralign.servers.process import EndedEarly, Launch, Running, free_port, running

_MODEL = "policy"
# The server must not take this process for one of its own, or its modules for those of its environment.
_WITHOUT = (
    "PYTHONPATH", "PYTHONHOME", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
_ADAPTERS = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
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
        if self._options.adapters and not _keeps(self._options):
            raise ConfigError(
                f"{self._key}.adapters needs a server that is kept. The base and the round before are loaded in this "
                "process while it runs, to tell which weights it serves, and one that is not kept may take all memory "
                "of the GPU. Give vLLM GPUs of its own (env.CUDA_VISIBLE_DEVICES), set keep to true and gpu_memory so "
                "that both fit, or set adapters to false"
            )
        program = shutil.which(expanded(self._options.python))
        if program is None:
            raise ConfigError(
                f"{self._key}.python must be the Python of an environment with vLLM, such as vllm-env/bin/python; "
                f"there is no program {self._options.python}"
            )
        self._program = str(Path(program).absolute())
        # Checked here that openai is installed.
        Client(self._options.server("http://127.0.0.1:1/v1", _MODEL), self._key)

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
        environment = {name: value for name, value in os.environ.items() if name not in _WITHOUT}
        look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
        try:
            done = subprocess.run(
                [self._program, "-c", look], env=environment | self._options.env, capture_output=True, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"{self._key}.python: {self._options.python} does not run: {error}") from None
        if done.returncode != 0:
            raise ConfigError(
                f"{self._key}.python: the environment of {self._options.python} has no vLLM; install it there "
                "(docs/engines.md)"
            )

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
            with _last_words(served.server):
                way = self._prove(served, own)
                yield from answered(served.client, way, fitting, chain(first, remaining), self._key)
        finally:
            if not _keeps(self._options):
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
        return _Served(server, self._client(server, _MODEL))

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
            with _last_words(server):
                load_adapter(client, adapter, self._key)
        except AdapterRefused as why:
            _REFUSED[started] = str(why)
            raise
        before = self._policy.before
        others = [base] if before is None or before.source == base.source else [before, base]
        return _Served(server, client, others)

    def _start_base(self, started: _Started, folder: Path) -> Running:
        try:
            return _KEEPER.get(started, partial(self._serve, folder, started.adapters, _ADAPTERS))
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
        return Client(self._options.server(_address(server), model), self._key)

    @property
    def _loads_adapter(self) -> bool:
        return self._policy.source.adapter is not None and _loads_adapters(self._options)

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
        with whole_model(self._policy) as folder, self._serve(folder, (), {}) as server:
            yield server

    @contextmanager
    def _serve(self, folder: Path, more: tuple[str, ...], environment: dict[str, str]) -> Iterator[Running]:
        """A server of a folder, with the tokenizer that the policy is trained with."""
        with tempfile.TemporaryDirectory(prefix="seralign-") as tokenizer:
            self._policy.tokenizer.save_pretrained(tokenizer)
            # vLLM looks for the model's settings beside the tokenizer too, and complains where there are none.
            shutil.copyfile(folder / SETTINGS, Path(tokenizer) / SETTINGS)
            port, log = free_port(), self._options.log
            launch = Launch(
                name="vLLM",
                command=command(self._program, self._options, folder, Path(tokenizer), self._dtype, port)
                + (["--trust-remote-code"] if self._policy.loading.trust_remote_code else [])
                + list(more),
                health=f"http://127.0.0.1:{port}/health",
                environment=_QUIET | environment | self._options.env,
                without=_WITHOUT,
                wait=self._options.wait,
                log=None if log is None else Path(expanded(log)),
            )
            with running(launch, self._key) as server:
                yield server


def command(python: str, options: VllmConfig, folder: Path, tokenizer: Path, dtype: str, port: int) -> list[str]:
    """The command of the server.

    It is started as a module, which works for every build of vLLM; the program ``vllm`` is missing in some.
    """
    given = {
        "--model": folder, "--tokenizer": tokenizer, "--served-model-name": _MODEL, "--host": "127.0.0.1",
        "--port": port, "--dtype": dtype, "--generation-config": "vllm",
        "--tensor-parallel-size": options.tensor_parallel if options.tensor_parallel > 1 else None,
        "--data-parallel-size": options.data_parallel if options.data_parallel > 1 else None,
        "--gpu-memory-utilization": options.gpu_memory, "--max-model-len": options.max_length,
    }  # fmt: skip
    pairs = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    return [python, "-m", "vllm.entrypoints.openai.api_server", *pairs, *options.arguments]


def _base_of(policy: SampledPolicy) -> SampledPolicy:
    """The policy without its adapter."""
    source = replace(policy.source, adapter=None)
    loading = replace(policy.loading, adapter=None, lora=None)
    load = partial(load_model, source, loading, policy.dtype)
    return replace(policy, name=f"the base of {policy.name}", source=source, load=load, loading=loading, before=None)


@contextmanager
def _last_words(server: Running) -> Iterator[None]:
    """If the server has ended, errors have the end of its output."""
    try:
        yield
    except ConfigError as error:
        if server.alive:
            raise
        raise ConfigError(f"{error}\nvLLM has ended; it says:\n{server.says()}") from None


def _address(server: Running) -> str:
    return server.launch.health.removesuffix("/health") + "/v1"


def _keeps(options: VllmConfig) -> bool:
    if options.keep is not None:
        return options.keep
    return "CUDA_VISIBLE_DEVICES" in options.env or not torch.cuda.is_available()


def _loads_adapters(options: VllmConfig) -> bool:
    if options.adapters is not None:
        return options.adapters
    # A server that ends with each sampling gains nothing, and on a processor sampling takes longer than a restart.
    given = options.env.get("CUDA_VISIBLE_DEVICES")
    has_gpu = torch.cuda.is_available() if given is None else given.strip() not in ("", "-1")
    return has_gpu and _keeps(options)
