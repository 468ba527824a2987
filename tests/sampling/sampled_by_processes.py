"""A table of prompts sampled by the processes of a launcher: ``python sampled_by_processes.py MODEL FOLDER``.

By the built-in engine, which is in every process, and by an engine that the main process alone asks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import tiny
import torch

from seralign import distributed
from seralign.config import PolicyConfig, SamplingConfig
from seralign.data.table import read_table, write_prompts
from seralign.policy.identity import PolicySource
from seralign.policy.load import load_model
from seralign.policy.sampling import SamplingParams
from seralign.records import Candidate, Prompt
from seralign.runs.results import Results
from seralign.sampling import SampledPolicy, make_sampler, sample_candidates
from seralign.sampling.base import Request

END = tiny.EOS
PROMPTS = [Prompt(f"p{row}", "", tuple(3 + (row + at) % 20 for at in range(2 + row % 5))) for row in range(7)]


class Elsewhere:
    """Answers with the prompt's first token; notes which process was asked."""

    identity = "elsewhere 1"
    prompts_per_request = 2
    in_every_process = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sample(self, requests: Iterable[Request], watch: Any = None) -> Iterator[tuple[Request, list[Candidate]]]:
        for request in requests:
            with (self._folder / f"asked-{distributed.rank()}").open("a") as asked:
                asked.write("".join(f"{prompt.prompt_id}\n" for prompt in request.prompts))
            yield (
                request,
                [
                    Candidate(prompt.prompt_id, index, "", (prompt.ids[0], END), True)
                    for prompt in request.prompts
                    for index in range(request.params.samples)
                ],
            )


def main(model: Path, folder: Path) -> None:
    """Both engines, each asked a second time; every process writes what it got, and the main one how much is stored."""
    torch.set_num_threads(1)
    distributed.start()
    source, tokenizer = PolicySource(str(model)), tiny.make_tokenizer()
    load = partial(load_model, source, PolicyConfig(), "float32")
    policy = SampledPolicy("tiny", source, "float32", "default", tokenizer, frozenset({END}), load, PolicyConfig())
    settings = SamplingConfig(temperature=1.0, batch_size=2)
    if distributed.is_main():
        folder.mkdir()
        write_prompts(folder / "prompts.arrow", PROMPTS)
    distributed.barrier()
    prompts, found = read_table(folder / "prompts.arrow"), {}
    engines = {"local": make_sampler(policy, settings, "evaluation"), "elsewhere": Elsewhere(folder)}
    with closing(Results(folder / "results.sqlite")) as results:
        for name, engine in [*engines.items(), *((f"{name}, again", engine) for name, engine in engines.items())]:
            table = sample_candidates(
                prompts,
                engine,
                SamplingParams(3, 1.0, 1.0, 6),
                policy="tiny",
                end_tokens=frozenset({END}),
                seed=5,
                results=results,
                label=name,
            )
            found[name] = table.to_pylist()
    (folder / f"found-{distributed.rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
