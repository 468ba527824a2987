"""Real servers of the OpenAI API for tests, on a port of this machine: ``transformers serve``, and llama.cpp."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from seralign.servers.process import Launch, free_port, running

_OFFLINE = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    "ACCELERATE_USE_CPU": "true", "PYTHONWARNINGS": "ignore",
}  # fmt: skip


@dataclass(frozen=True)
class Served:
    """A server that is ready: its base address, the name of its model, the model's folder, and the process to kill."""

    url: str
    model: str
    folder: Path
    pid: int


@contextmanager
def serve(folder: Path, *arguments: str, port: int | None = None) -> Iterator[Served]:
    """Serve the model of a folder. It ends with the context, or with this process."""
    port = port or free_port()
    program = str(Path(sys.executable).with_name("transformers"))
    command = [program, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu",
               "--log-level", "error", *arguments]  # fmt: skip
    launch = Launch("transformers serve", command, f"http://127.0.0.1:{port}/health", _OFFLINE, wait=120.0)
    with running(launch, "tests") as server:
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        yield Served(f"http://127.0.0.1:{port}/v1", str(folder), folder, int(children[0]))


@contextmanager
def serve_llama(python: Path, model: Path, name: str, port: int | None = None) -> Iterator[Served]:
    """Serve a GGUF file as ``name`` with the llama-cpp-python of an interpreter, on one core."""
    port = port or free_port()
    command = [str(python), "-m", "llama_cpp.server", "--model", str(model), "--model_alias", name, "--host",
               "127.0.0.1", "--port", str(port), "--n_ctx", "4096", "--n_threads", "1",
               "--n_threads_batch", "1"]  # fmt: skip
    url = f"http://127.0.0.1:{port}/v1"
    with running(Launch("llama_cpp.server", command, f"{url}/models", {"OMP_NUM_THREADS": "1"}), "tests") as server:
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        yield Served(url, name, model, int(children[0]))
