"""Faults of the machine while a run works: it is killed at random, asked to end, out of disk, out of memory, started
twice. What was done is kept, and the same command ends as a run without faults."""

from __future__ import annotations

import errno
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from harms import in_child
from safetensors.torch import load_file
from small_run import SMALL

import seralign.pipeline  # noqa: F401  imported before forking, so that attempts are quick
from seralign.cli.main import main
from seralign.config import load_config, to_dict
from seralign.runs import read_run
from seralign.runs.files import locked, read_table

# A round of training, one of selected and sampled pairs, and nothing else.
ROUNDS: dict[str, Any] = {
    "rounds": 2, "sft": None, "evaluation": {"prompts": 0, "baseline": False, "token_pairs": 0},
    "training": SMALL["training"] | {"max_steps": 3, "save_steps": 2},
    "world": {"pairs": 40, "demonstrations": 20, "prompts": 12, "heldout": 6},
    "bootstrap": SMALL["bootstrap"] | {"samples": 2},
}  # fmt: skip
# What is written of a run besides its results: metrics have a line more where a training was asked to end, and the
# model card has the path of the run.
NO_RESULT = ("metrics.jsonl", "README.md")

Inject = Callable[[], object]


class Folder:
    """A run's folder and the command that works on it, each time in a process of its own."""

    def __init__(self, folder: Path, **overrides: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.root, self._said, self._file = folder / "run", folder / "said", folder / "run.yaml"
        config = to_dict(load_config(None, SMALL | ROUNDS | overrides | {"out": str(self.root)}))
        self._file.write_text(yaml.safe_dump(config), encoding="utf-8")

    def command(self, inject: Inject | None = None) -> tuple[int, str]:
        """Exit code and output of the command, with a fault injected."""

        def work() -> int:
            torch.set_num_threads(1)
            if inject is not None:
                inject()
            return main(["train", str(self._file)])

        return in_child(work, self._said)

    def completed(self) -> None:
        """Carry the run to its end."""
        code, said = self.command()
        assert code == 0, said

    def killed_after(self, seconds: float) -> bool:
        """Kill the command after some time; whether it had ended before."""

        def kill() -> None:
            threading.Thread(target=lambda: (time.sleep(seconds), os.kill(os.getpid(), signal.SIGKILL))).start()

        code, said = self.command(kill)
        assert code in (0, -signal.SIGKILL), said
        return code == 0

    def outputs(self) -> dict[str, dict[str, str]]:
        """The digests of all results, by stage."""
        return {
            record.name: {name: digest for name, digest in record.outputs.items() if not name.endswith(NO_RESULT)}
            for record in read_run(self.root).stages()
        }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A run without faults."""
    found = Folder(tmp_path_factory.mktemp("whole"))
    found.completed()
    return found


def at_call(owner: Any, name: str, number: int, act: Callable[[], object]) -> None:
    """Act before the ``number``-th call of a function."""
    calls, function = itertools.count(1), getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            act()
        return function(*args, **kwargs)

    setattr(owner, name, call)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


# --- killed and asked to end


def random_kills(folder: Folder, seed: int, kills: int, longest: float) -> int:
    """Kill the command after random times, carry it to its end, and count the kills."""
    rng, killed = random.Random(seed), 0
    while killed < kills and not folder.killed_after(rng.uniform(0.05, longest)):
        killed += 1
    folder.completed()
    return killed


def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(whole: Folder, tmp_path: Path) -> None:
    killed = Folder(tmp_path)
    random_kills(killed, 0, 3, 1.5)  # how many depends on the machine
    assert killed.outputs() == whole.outputs()
    assert not list(killed.root.rglob("*.partial"))


@pytest.mark.real
@pytest.mark.parametrize("seed", range(1, 11))
def test_many_runs_killed_at_random_moments_end_as_one_that_was_not(whole: Folder, tmp_path: Path, seed: int) -> None:
    killed = Folder(tmp_path)
    count = random_kills(killed, seed, 40, random.Random(seed).choice((0.5, 1.5, 4.0)))
    print(f"seed {seed}: killed {count} times")
    assert killed.outputs() == whole.outputs()
    assert not list(killed.root.rglob("*.partial"))


def test_sigterm_ends_with_143_and_costs_nothing(whole: Folder, tmp_path: Path) -> None:
    """In a training at the end of its step, of several packs, with a checkpoint that was not planned; elsewhere at
    once."""
    from seralign.runs.results import Results
    from seralign.training.trainer import PreferenceTrainer

    folder = Folder(tmp_path)
    code, said = folder.command(lambda: at_call(PreferenceTrainer, "training_step", 1, terminate))
    assert code == 143, said
    assert said.count("SIGTERM: saving a checkpoint at step 1") == 1
    assert said.splitlines()[-1] == "terminated; give the same command again to resume"
    checkpoints = folder.root / "round-1/train.partial/scratch"
    assert [path.parent.name for path in checkpoints.rglob("complete.json")] == ["checkpoint-1"]

    code, said = folder.command(lambda: at_call(Results, "put", 2, terminate))
    assert code == 143, said
    assert "resuming from checkpoint-1" in said
    assert said.splitlines()[-1] == "terminated; give the same command again to resume"
    assert (folder.root / "round-2/sample.partial").is_dir()
    folder.completed()
    assert folder.outputs() == whole.outputs()


# --- a full disk


def refuse_table() -> None:
    import seralign.runs.files as files

    at_call(files.pq, "write_table", 2, lambda: _raise(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))


def refuse_weights() -> None:
    def full() -> None:
        _raise(safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"))

    import transformers.modeling_utils as modeling

    at_call(modeling, "safe_save_file", 1, full)


def refuse_optimizer() -> None:
    def full() -> None:
        _raise(RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"))

    at_call(torch, "save", 1, full)


def refuse_cache() -> None:
    """SQLite itself finds the file full."""
    from seralign.runs.cache import LogpCache

    put = LogpCache.put

    def full(self: Any, *args: Any) -> None:
        self._db.execute("PRAGMA max_page_count = 1")
        put(self, *args)

    setattr(LogpCache, "put", full)  # noqa: B010


def _raise(error: Exception) -> None:
    raise error


def test_a_full_disk_ends_a_run_with_one_line_and_costs_nothing(whole: Folder, tmp_path: Path) -> None:
    """Four times, each of which meets another file: a checkpoint, a policy, a table, the cache."""
    folder = Folder(tmp_path)
    for refuse in (refuse_optimizer, refuse_weights, refuse_table, refuse_cache):
        code, said = folder.command(refuse)
        assert code == 2, (refuse.__name__, said)
        (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
        assert str(folder.root) in error
        assert "disk" in error
        assert "Traceback" not in said
    folder.completed()
    assert folder.outputs() == whole.outputs()


# --- out of memory


def short_of_memory(tokens: int) -> None:
    """No forward pass of more than so many tokens, and none of training: that fails after its backward pass, so that
    gradients of other packs and a part of its own are there."""
    import seralign.rewards.cached_logprobs as scoring
    from seralign.training.trainer import PreferenceTrainer

    step, forward = PreferenceTrainer.training_step, scoring.forward

    def small_step(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        size = inputs["input_ids"].numel()
        found = step(self, model, inputs, *args, **kwargs)
        if size > tokens:
            raise torch.OutOfMemoryError(f"{size} tokens")
        return found

    def small_forward(model: Any, responses: Any, pack: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        if responses.whole_lengths[pack].sum() > tokens:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return forward(model, responses, pack, *args, **kwargs)

    PreferenceTrainer.training_step, scoring.forward = small_step, small_forward


def short_of_memory_for_sampling() -> None:
    import seralign.sampling.local as local

    sample = local.sample

    def small_sample(model: Any, tokenizer: Any, prompts: Any, *args: Any, **kwargs: Any) -> Any:
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sample(model, tokenizer, prompts, *args, **kwargs)

    local.sample = small_sample


def test_out_of_memory_halves_the_budget_once_and_gives_the_same_result(whole: Folder, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    code, said = folder.command(lambda: (short_of_memory(110), short_of_memory_for_sampling()))
    assert code == 0, said
    flat = " ".join(said.split())
    for name in ("round-1/train", "round-2/train"):
        assert flat.count(f"warning: {name}: out of memory: training.tokens_per_pack is halved to 100") == 1
    assert flat.count("out of memory: batch_size is halved") == 1

    for table, column in (
        ("round-2/select/selection.parquet", "reason"),
        ("round-2/sample/candidates.parquet", "text"),
    ):
        found, wanted = (read_table(each.root / table)[column].to_pylist() for each in (folder, whole))
        assert found == wanted
    found, wanted = (load_file(each.root / "result/model.safetensors") for each in (folder, whole))
    for name, weight in wanted.items():
        # Six steps of up to 1e-3 each; Adam makes much of gradients that are nearly zero.
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-4)


def test_out_of_memory_for_one_example_is_one_line(tmp_path: Path) -> None:
    code, said = Folder(tmp_path).command(lambda: short_of_memory(5))
    assert code == 1, said
    assert said.splitlines()[-1].startswith("error: out of memory")
    assert "Traceback" not in said


# --- two commands


def test_a_second_command_on_a_folder_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with locked(folder.root):
        before = sorted(folder.root.rglob("*"))
        code, said = folder.command()
        assert code == 2
        assert said == f"error: {folder.root}: another process is working on this run\n"
        assert sorted(folder.root.rglob("*")) == before
