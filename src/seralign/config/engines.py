"""The options of sampling engines that are servers. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from seralign.checks import positive, require
from seralign.config.fields import keys_below
from seralign.config.server import ServerConfig
from seralign.config.values import build
from seralign.errors import ConfigError

Software = Literal["auto", "vllm", "sglang", "llama.cpp", "ollama", "transformers", "other"]
Mode = Literal["tokens", "text", "messages"]


@dataclass(frozen=True)
class ServerEngineConfig:
    """The options of the engine ``server`` besides those of ``ServerConfig``.

    Args:
        software: What serves: ``vllm``, ``sglang``, ``llama.cpp``, ``ollama``, ``transformers`` (``transformers
            serve``) or ``other``. It decides which fields a request has. Default: recognised from the list of models.
        prompts: How prompts are sent: as ``tokens``, as ``text``, or as ``messages``, which the server renders.
            Default: the first of these that the server reads as the policy does.
        extra_body: More fields of every request.
        tolerance: Largest difference to the policy, in nats a token, that passes for rounding: the mean difference of
            log-probabilities, and how much less likely a token of a greedy answer may be than the best one. Default:
            0.01 for a policy in float32, else 0.1.
    """

    software: Software = "auto"
    prompts: Mode | None = None
    extra_body: dict[str, Any] = field(default_factory=dict)
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.tolerance is not None:
            positive(self.tolerance, "tolerance")


@dataclass(frozen=True)
class VllmConfig:
    """The options of the engine ``vllm``, which starts vLLM's server for each policy, or for the base of LoRA adapters.

    Args:
        python: The Python of the environment that vLLM is installed in: ``vllm-env/bin/python``. vLLM is never
            imported by seralign.
        tensor_parallel: Number of GPUs that share a copy of the model.
        data_parallel: Number of copies of the model.
        gpu_memory: Share of each GPU's memory that vLLM takes. Default: vLLM's.
        dtype: Data type of the weights: ``float32``, ``bfloat16`` or ``float16``. Default: that of the policy.
        max_length: Maximum number of tokens of a prompt and its response. Default: that of the model.
        arguments: More arguments of the server: ``[--enforce-eager]``.
        env: Environment variables of the server, such as ``CUDA_VISIBLE_DEVICES`` or ``VLLM_CPU_KVCACHE_SPACE``.
        keep: Whether the server stays until it cannot serve the next policy. Otherwise it ends with each sampling, and
            its GPUs are free for training. Default: true, unless this process has a GPU and ``env`` does not set
            ``CUDA_VISIBLE_DEVICES``.
        adapters: Whether a LoRA adapter is loaded by a server of its base, which then serves all rounds, in place of a
            server of the merged weights of each round. It needs a server that is kept. Default: true for a server that
            is kept and has a GPU. On a processor, sampling with an adapter takes vLLM longer than a restart.
        wait: Seconds until the server must be ready.
        log: File for the server's output.
        parallel: Number of requests at the same time.
        timeout: Seconds to wait for an answer.
        retries: How often a failed request is sent again.
        tolerance: Largest mean difference to the policy's log-probabilities that passes for rounding, in nats.
            Default: 0.01 for float32, else 0.1.
    """

    python: str
    tensor_parallel: int = 1
    data_parallel: int = 1
    gpu_memory: float | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    max_length: int | None = None
    arguments: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    keep: bool | None = None
    adapters: bool | None = None
    wait: float = 900.0
    log: str | None = None
    parallel: int = 64
    timeout: float = 600.0
    retries: int = 5
    tolerance: float | None = None

    def __post_init__(self) -> None:
        positive(self.tensor_parallel, "tensor_parallel")
        positive(self.data_parallel, "data_parallel")
        positive(self.wait, "wait")
        if self.gpu_memory is not None:
            require(0 < self.gpu_memory <= 1, "gpu_memory", "in (0, 1]", self.gpu_memory)
        if self.max_length is not None:
            positive(self.max_length, "max_length")
        if self.tolerance is not None:
            positive(self.tolerance, "tolerance")
        # parallel, timeout and retries have the bounds that they have for other servers.
        self.server("http://127.0.0.1:1/v1", "policy")

    def server(self, url: str, model: str) -> ServerConfig:
        """How the started server is reached."""
        return ServerConfig(url, model, parallel=self.parallel, timeout=self.timeout, retries=self.retries)


def server_options(values: dict[str, Any], key: str) -> tuple[ServerConfig, ServerEngineConfig]:
    """The options of the engine ``server``, from ``engine_options``; ``key`` is the whole key of these.

    Raises:
        ConfigError: an option is unknown or missing, or has a value that is not allowed; names the whole key.
    """
    server, own = keys_below(ServerConfig), keys_below(ServerEngineConfig)
    _check(values, [*server, *own], key, "server")
    reached = build(ServerConfig, {name: value for name, value in values.items() if name in server}, key)
    return reached, build(ServerEngineConfig, {name: value for name, value in values.items() if name in own}, key)


def vllm_options(values: dict[str, Any], key: str) -> VllmConfig:
    """The options of the engine ``vllm``, from ``engine_options``; ``key`` is the whole key of these.

    Raises:
        ConfigError: an option is unknown or missing, or has a value that is not allowed; names the whole key.
    """
    _check(values, list(keys_below(VllmConfig)), key, "vllm")
    return build(VllmConfig, values, key)


def _check(values: dict[str, Any], known: list[str], key: str, engine: str) -> None:
    for name in values:
        if name not in known:
            raise ConfigError(f"{key}.{name}: engine {engine} has no such option; it has {', '.join(known)}")
