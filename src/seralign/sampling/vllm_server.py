"""vLLM's server: the environment that it is in, how it is started, whether it is kept and whether it loads adapters."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from seralign.config.engines import VllmConfig
from seralign.config.paths import expanded
from seralign.errors import ConfigError
from seralign.policy.identity import SETTINGS
from seralign.sampling.base import SampledPolicy
from seralign.servers.process import Launch, Running, free_port, running

MODEL = "policy"
"""The name under which a server has the model that it was started with."""
# The server must not take this process for one of its own, or its modules for those of its environment.
_WITHOUT = (
    "PYTHONPATH", "PYTHONHOME", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
_ADAPTERS = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}


def python_of(options: VllmConfig, key: str) -> str:
    """The full path of the Python of vLLM's environment.

    Raises:
        ConfigError: There is none.
    """
    program = shutil.which(expanded(options.python))
    if program is None:
        raise ConfigError(
            f"{key}.python must be the Python of an environment with vLLM, such as vllm-env/bin/python; "
            f"there is no program {options.python}"
        )
    return str(Path(program).absolute())


def check_installed(options: VllmConfig, key: str) -> None:
    """Check that the environment has vLLM, without importing it.

    Raises:
        ConfigError: It has not, or its Python does not run.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _WITHOUT}
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    python = python_of(options, key)
    try:
        done = subprocess.run([python, "-c", look], env=environment | options.env, capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{key}.python: {options.python} does not run: {error}") from None
    if done.returncode != 0:
        raise ConfigError(
            f"{key}.python: the environment of {options.python} has no vLLM; install it there (docs/engines.md)"
        )


@contextmanager
def serve(
    policy: SampledPolicy, folder: Path, dtype: str, options: VllmConfig, key: str, adapters: tuple[str, ...] = ()
) -> Iterator[Running]:
    """A server of a model, with the tokenizer that the policy is trained with.

    Args:
        policy: The policy.
        folder: The model: all weights of the policy, or its base.
        dtype: Data type of the weights.
        options: The engine's options.
        key: Key of the options, for messages.
        adapters: Arguments of a server that loads adapters at run time.

    Raises:
        EndedEarly: The server ends before it is ready.
        ConfigError: It is not ready in time.
    """
    with tempfile.TemporaryDirectory(prefix="seralign-") as tokenizer:
        policy.tokenizer.save_pretrained(tokenizer)
        # vLLM looks for the model's settings beside the tokenizer too, and complains where there are none.
        shutil.copyfile(folder / SETTINGS, Path(tokenizer) / SETTINGS)
        port = free_port()
        launch = Launch(
            name="vLLM",
            command=command(python_of(options, key), options, folder, Path(tokenizer), dtype, port)
            + (["--trust-remote-code"] if policy.loading.trust_remote_code else [])
            + list(adapters),
            health=f"http://127.0.0.1:{port}/health",
            environment=_QUIET | (_ADAPTERS if adapters else {}) | options.env,
            without=_WITHOUT,
            wait=options.wait,
            log=None if options.log is None else Path(expanded(options.log)),
        )
        with running(launch, key) as server:
            yield server


def command(python: str, options: VllmConfig, folder: Path, tokenizer: Path, dtype: str, port: int) -> list[str]:
    """The command of the server.

    It is started as a module, which works for every build of vLLM; the program ``vllm`` is missing in some.
    """
    given = {
        "--model": folder, "--tokenizer": tokenizer, "--served-model-name": MODEL, "--host": "127.0.0.1",
        "--port": port, "--dtype": dtype, "--generation-config": "vllm",
        "--tensor-parallel-size": options.tensor_parallel if options.tensor_parallel > 1 else None,
        "--data-parallel-size": options.data_parallel if options.data_parallel > 1 else None,
        "--gpu-memory-utilization": options.gpu_memory, "--max-model-len": options.max_length,
    }  # fmt: skip
    pairs = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    return [python, "-m", "vllm.entrypoints.openai.api_server", *pairs, *options.arguments]


@contextmanager
def last_words(server: Running) -> Iterator[None]:
    """If the server has ended, errors have the end of its output."""
    try:
        yield
    except ConfigError as error:
        if server.alive:
            raise
        raise ConfigError(f"{error}\nvLLM has ended; it says:\n{server.says()}") from None


def address(server: Running) -> str:
    """The address of a server's API."""
    return server.launch.health.removesuffix("/health") + "/v1"


def keeps(options: VllmConfig) -> bool:
    """Whether the server is kept when a sampling ends; the default needs GPUs of its own, or none at all."""
    if options.keep is not None:
        return options.keep
    return "CUDA_VISIBLE_DEVICES" in options.env or not torch.cuda.is_available()


def loads_adapters(options: VllmConfig) -> bool:
    """Whether the adapter of a policy is loaded onto a server of its base."""
    if options.adapters is not None:
        return options.adapters
    # A server that ends with each sampling gains nothing, and on a processor sampling takes longer than a restart.
    given = options.env.get("CUDA_VISIBLE_DEVICES")
    has_gpu = torch.cuda.is_available() if given is None else given.strip() not in ("", "-1")
    return has_gpu and keeps(options)
