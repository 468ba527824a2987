"""A stand-in for vLLM, and sampling through it with the engine ``vllm``."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import tiny
from fake_server import fake_server
from model_server import vllm_server

from seralign.config import PolicyConfig, SamplingConfig
from seralign.policy.identity import PolicySource, weights_digest
from seralign.policy.load import load_model
from seralign.runs.results import Results
from seralign.sampling import SampledPolicy, make_sampler, params_of, sample_candidates
from seralign.servers.process import EndedEarly, Launch

ENDS = frozenset({tiny.EOS})


def save_package(folder: Path) -> Path:
    """Save a package ``vllm`` in a folder, whose server is that of ``model_server``; returns the folder."""
    inner = folder / "vllm" / "entrypoints" / "openai"
    inner.mkdir(parents=True)
    paths = [str(Path(__file__).parent), str(Path(tiny.__file__).parent), *filter(None, sys.path)]
    text = f"import sys\nsys.path[:] = {paths!r}\nimport model_server\nmodel_server.main(sys.argv[1:])\n"
    (inner / "api_server.py").write_text(text)
    return folder


def policy_of(source: PolicySource, name: str = "round 1", before: PolicySource | None = None) -> SampledPolicy:
    """The policy of some folders, in float32."""
    load = partial(load_model, source, PolicyConfig(), "float32")
    return SampledPolicy(
        name, source, "float32", "default", tiny.make_tokenizer(), ENDS, load, PolicyConfig(),
        None if before is None else policy_of(before, "the round before"),
    )  # fmt: skip


def sampled(policy: SampledPolicy, config: SamplingConfig, store: Path, samples: int) -> pa.Table:
    """Responses of an engine to five prompts; those in the store are not asked for again."""
    with closing(Results(store)) as results:
        return sample_candidates(
            tiny.prompts_table(5), make_sampler(policy, config, "bootstrap"), params_of(config, samples),
            policy=weights_digest(policy.source), end_tokens=ENDS, seed=1, results=results, label="sampling",
        )  # fmt: skip


class Sampling:
    """Samples through the stand-in; ``starts`` are the arguments of the servers so far."""

    def __init__(self, package: Path, folder: Path) -> None:
        self.log, self.folder = folder / "vllm.log", folder
        self.env = {"PYTHONPATH": str(package)}
        self.options = {"python": sys.executable, "env": self.env, "log": str(self.log), "retries": 1, "wait": 100,
                        "adapters": True, "keep": True}  # fmt: skip

    def __call__(
        self,
        source: PolicySource,
        store: str,
        name: str = "round 1",
        before: PolicySource | None = None,
        **options: Any,
    ) -> pa.Table:
        config = SamplingConfig(engine="vllm", engine_options=self.options | options, max_new_tokens=6)
        return sampled(policy_of(source, name, before), config, self.folder / f"{store}.sqlite", 3)

    @property
    def starts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._lines if line.startswith("{")]

    @property
    def adapters(self) -> list[tuple[str, ...]]:
        """The adapters that were loaded and unloaded so far: the route, the name, and the folder of one loaded."""
        return [tuple(line.split()) for line in self._lines if "load_lora_adapter " in line]

    @property
    def _lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    @contextmanager
    def in_this_process(self, launch: Launch, key: str) -> Iterator[Any]:
        """Takes the place of ``running``: the same server without a process of its own, which would take seconds."""

        def tell(line: str) -> None:
            with self.log.open("a") as file:
                file.write(f"{line}\n")

        try:
            served, port = vllm_server(launch.command[3:], launch.environment, tell)
        except ValueError as error:
            says = f"{'Loading weights. ' * 30}\nValueError: {error}"
            raise EndedEarly(f"{key}: {launch.name} ended with status 1; it says:\n{says}") from None
        with fake_server(served, port, models=None):
            yield SimpleNamespace(launch=launch, alive=True)


def kill_server(pid: int) -> None:
    """Kill a server by the process that watches it."""
    os.kill(int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]), signal.SIGKILL)
