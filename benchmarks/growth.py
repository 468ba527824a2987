"""How cost grows: with pairs, sequence length, vocabulary and candidates; and where the time of a training step goes.

    python -m benchmarks.growth --json FILE [--threads N] [--only NAME] [--quick]

Everything is random or synthetic; no data file is needed. Each measurement of memory has a fresh process, a fork of one
that has loaded the libraries and done nothing else. What would take too long or too much memory is not measured, and
the figures say so. ``python -m benchmarks.growth_plots FILE`` draws the plots of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import growth_parts as parts
from benchmarks.common import add_precision, largest_difference, machine, precision
from benchmarks.models import make_tokenizer, save_model
from benchmarks.workers import pin
from seralign.policy.quiet import quiet_transformers

PAIRS = (1_000, 10_000, 100_000, 1_000_000)
LENGTHS = tuple(2**power for power in range(8, 16))
VOCABULARIES = tuple(2**power for power in range(13, 19))
CANDIDATES = (1, 2, 4, 8, 16, 32)
STEP_TOKENS = 3000
QUICK = {"pairs": (200, 1_000), "length": (256, 512), "vocabulary": (8192, 16384), "candidates": (1, 4), "step": 300}
# Scoring that would take longer is left out; sizes end after a pass that took longer, or where four times the memory of
# the last one is more than this share of what is free.
LONGEST_SCORING, LONGEST_PASS, LARGEST_SHARE = 180.0, 20.0, 0.5
# Largest difference of two float32 ways to the same log-probability, relative to its size.
ROUNDING = 1e-4
WORDS = [f"{first}{second}{third}" for first in "bdfgklmnpr" for second in "aeiou" for third in "bdfgklmnprstvz"]


class Processes:
    """Starts each measurement in a process of its own."""

    def __init__(self, threads: int) -> None:
        pin(threads)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["benchmarks.growth_parts", "benchmarks.growth_profile"])

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns in a new process; a reason to skip it where the system killed it."""
        with ProcessPoolExecutor(1, mp_context=self._context) as pool:
            try:
                return pool.submit(function, *arguments).result()
            except BrokenProcessPool:
                return {"skipped": "the process was killed, as the system does where memory is short"}


def pairs(processes: Processes, sizes: tuple[int, ...], folder: Path) -> dict[str, Any]:
    """Data, scoring and selection of growing numbers of short pairs."""
    # Read once, by the process that the others are forks of.
    os.environ["HF_DATASETS_CACHE"] = str(folder / "datasets")
    tokenizer = make_tokenizer(texts(2000), vocabulary=2000)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder / "tokenizer")
    found: dict[str, list[dict[str, Any]]] = {"data": [], "scoring": [], "selection": []}
    for size in sizes:
        rows, table, cache = folder / f"{size}.jsonl", folder / f"{size}.arrow", folder / f"{size}.sqlite"
        write_rows(rows, size)
        data = processes.run(parts.data_stage, rows, table, folder / "tokenizer")
        _add(found["data"], {"pairs": size} | data)
        if "skipped" in data:
            break
        _add(found["selection"], {"pairs": size} | processes.run(parts.selection_stage, table))
        last = found["scoring"][-1] if found["scoring"] else {"pairs": size, "seconds": 0.0}
        expected = last.get("seconds", np.inf) * size / last["pairs"]
        if expected > LONGEST_SCORING:
            scored = {"skipped": f"at the rate of {last['pairs']} pairs it would take about {expected:.0f} s"}
        else:
            scored = processes.run(parts.scoring_stage, table, cache, len(tokenizer))
        _add(found["scoring"], {"pairs": size} | scored)
        for file in (rows, table, *folder.glob(f"{size}.sqlite*")):
            file.unlink()
        shutil.rmtree(folder / "datasets", ignore_errors=True)
    return found


def length(processes: Processes, sizes: tuple[int, ...]) -> dict[str, Any]:
    """A training pass over one pair, packed and padded, by the pair's tokens."""
    found = {path: _grow(processes, parts.training_pair, "tokens", sizes, path) for path in parts.PATHS}
    return found | {"equal": _same(found)}


def vocabulary(processes: Processes, sizes: tuple[int, ...]) -> dict[str, Any]:
    """The output layer in chunks and with all logits at once, by the vocabulary."""
    found = {path: _grow(processes, parts.output_layer, "vocabulary", sizes, path) for path in ("chunked", "full")}
    shape = {"tokens": parts.HEAD_TOKENS, "width": parts.HEAD_WIDTH}
    return found | shape | {"equal": _same(found)}


def candidates(processes: Processes, sizes: tuple[int, ...], turns: int) -> dict[str, Any]:
    """Log-probabilities of candidates for one prompt, packed and padded, by their number."""
    rows = processes.run(parts.candidate_scores, list(sizes), turns)
    values = [row.pop("logps") for row in rows]
    equal = all(_close(value["packed"], value["padded"]) for value in values)
    return {"prompt_and_response_tokens": parts.CANDIDATE_TOKENS, "rows": rows, "equal": equal}


def step(processes: Processes, tokens: int, folder: Path, precision: str) -> dict[str, Any]:
    """Where a training step's time goes."""
    with quiet_transformers():
        save_model(folder / "model", make_tokenizer(texts(2000)))
    return processes.run(parts.training_step, folder / "model", tokens, precision)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    names = ("pairs", "length", "vocabulary", "candidates", "step")
    parser.add_argument("--only", choices=names, help="measure this alone; the file's other figures stay")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    add_precision(parser)
    options = parser.parse_args()
    chosen = precision(options.precision)
    processes = Processes(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        measurements: dict[str, Callable[[], Any]] = {
            "step": lambda: step(processes, QUICK["step"] if options.quick else STEP_TOKENS, folder, chosen),
            "candidates": lambda: candidates(
                processes, QUICK["candidates"] if options.quick else CANDIDATES, 1 if options.quick else 7
            ),
            "vocabulary": lambda: vocabulary(processes, QUICK["vocabulary"] if options.quick else VOCABULARIES),
            "length": lambda: length(processes, QUICK["length"] if options.quick else LENGTHS),
            "pairs": lambda: pairs(processes, QUICK["pairs"] if options.quick else PAIRS, folder),
        }
        keeps = options.only and options.json and options.json.is_file()
        figures = json.loads(options.json.read_text(encoding="utf-8")) if keeps else {}
        figures |= {"benchmark": "growth", "threads": options.threads} | machine(chosen)
        for name, measure in measurements.items():
            if options.only in (None, name):
                figures[name] = measure()
    text = json.dumps(figures, indent=1)
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n", encoding="utf-8")


def _grow(
    processes: Processes, function: Callable[..., Any], name: str, sizes: tuple[int, ...], path: str
) -> list[dict[str, Any]]:
    """One path at growing sizes, until one takes too long or the next could take too much memory."""
    rows: list[dict[str, Any]] = []
    for size in sizes:
        if rows and "skipped" in rows[-1]:
            break
        reason = _too_much(rows[-1]) if rows else None
        row = {"skipped": reason} if reason else processes.run(function, size, path)
        _add(rows, {name: size} | row)
    return rows


def _too_much(last: dict[str, Any]) -> str | None:
    memory, free = 4 * last["added_mb"], _free_mb()
    if last["seconds"] > LONGEST_PASS:
        return f"a pass at half the size took {last['seconds']:.1f} s"
    if memory > LARGEST_SHARE * free:
        return f"half the size took {last['added_mb']:.0f} MB; this could take {memory:.0f} of {free:.0f} MB"
    return None


def _add(rows: list[dict[str, Any]], row: dict[str, Any]) -> None:
    rows.append(row)
    print(json.dumps({name: value for name, value in row.items() if name != "logps"}), file=sys.stderr, flush=True)


def _same(found: dict[str, list[dict[str, Any]]]) -> bool:
    """Whether both paths gave the same log-probabilities at every size that both were measured at."""
    values = [[row.pop("logps", None) for row in rows] for rows in found.values()]
    both = [pair for pair in zip(*values, strict=False) if None not in pair]
    return bool(both) and all(_close(*pair) for pair in both)


def _close(first: list[float], second: list[float]) -> bool:
    return largest_difference(first, second, [max(1.0, abs(value)) for value in first]) <= ROUNDING


def _free_mb() -> float:
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    return float("inf")


def texts(count: int) -> list[str]:
    random = np.random.default_rng(1)
    return [" ".join(random.choice(WORDS, 10)) for _ in range(count)]


def write_rows(path: Path, count: int) -> None:
    """Pairs of 8 to 12 words each part, written row by row."""
    random = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            words = [WORDS[number] for number in random.integers(0, len(WORDS), 36)]
            ends = np.cumsum(random.integers(8, 13, 3))
            chosen, rejected = words[ends[0] : ends[1]], words[ends[1] : ends[2]]
            row = {"prompt": words[: ends[0]], "chosen": ["", *chosen], "rejected": ["", *rejected]}
            file.write(json.dumps({name: " ".join(part) for name, part in row.items()}) + "\n")


if __name__ == "__main__":
    main()
