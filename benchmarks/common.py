"""What the benchmarks share: arguments, alternation, medians, the check of equality, the file of figures."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.jobs import TOKENS_PER_PACK
from benchmarks.models import SMALL, LlamaShape
from benchmarks.workers import pin
from seralign.policy.identity import PolicySource
from seralign.policy.speed import Shape, model_shape, processor_name, processor_rates

PAIRS = Path("../shared/data/alpaca_eval_pairs.jsonl.gz")
# What make demo-llm converts.
SMOLLM2 = Path("runs/smollm2-model")
# Distance between two neighbouring bfloat16 numbers, relative to their size.
BFLOAT16 = 2.0**-8
_LIBRARIES = ("torch", "transformers", "trl", "accelerate", "datasets", "tokenizers")


@dataclass(frozen=True)
class Options:
    """The command line of a benchmark.

    ``size``: pairs (or prompts) that are used; ``precision``: float32, bfloat16; ``model``: a saved model in place of
    the benchmarks' own, a random Llama of ``shape``; ``tokens_per_pack``: ours in training.
    """

    json: Path | None
    pairs: Path
    threads: int
    repetitions: int
    size: int
    precision: str
    model: Path | None
    shape: LlamaShape = SMALL
    tokens_per_pack: int = TOKENS_PER_PACK


@dataclass(frozen=True)
class Repetition:
    """One side's turn: work done (pairs, candidates), and the seconds that it took."""

    amount: int
    seconds: float

    @property
    def rate(self) -> float:
        """Work a second."""
        return self.amount / self.seconds


@dataclass(frozen=True)
class Check:
    """How far apart two results are at most, and how far rounding may take them."""

    name: str
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Not so where a number is not finite."""
        return self.difference <= self.tolerance


def run(
    name: str,
    doc: str | None,
    size: int,
    measure: Callable[[Options, Path], dict[str, Any]],
    *,
    model: Path | None = None,
) -> None:
    """The whole of a benchmark's command: read the command line, measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--pairs", type=Path, default=PAIRS, help="data of the same format")
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    parser.add_argument("--repetitions", type=int, default=2, help="turns of each side that are counted")
    parser.add_argument("--size", type=int, default=size, help=f"pairs or prompts that are used (default {size})")
    if model is not None:
        parser.add_argument("--model", type=Path, default=model, help=f"saved ChatML model (default {model})")
    add_precision(parser)
    given = parser.parse_args()
    used: Path | None = vars(given).get("model")
    if used is not None and not (used / "config.json").is_file():
        sys.exit(f"{name} is skipped: there is no model in {used}; make demo-llm converts SmolLM2")
    options = Options(**vars(given) | {"precision": precision(given.precision, used), "model": used})
    if not options.pairs.is_file():
        sys.exit(f"{name} is skipped: there is no {options.pairs}; give the data with --pairs FILE")
    pin(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(options, Path(scratch))
    figures = {"benchmark": name} | figures | {"threads": options.threads} | machine(options.precision)
    text = json.dumps(figures, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


def add_precision(parser: argparse.ArgumentParser) -> None:
    """The option ``--precision``."""
    text = "of forward and backward passes, over float32 weights (default auto: the faster one on this machine)"
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help=text)


def precision(given: str, model: Path | None = None) -> str:
    """The precision that is asked for; for ``auto`` what a run takes here for ``model``, or for the random Llama."""
    if given != "auto":
        return given
    shape = model_shape(PolicySource(str(model)), False) if model else Shape(384, 1024)
    return processor_rates(shape).fast


def in_words(precision: str) -> str:
    """A precision as the figures name it."""
    return "float32" if precision == "float32" else "bfloat16 autocast over float32 weights"


def machine(precision: str) -> dict[str, Any]:
    """What figures depend on beside the program."""
    return {"precision": in_words(precision), "processor": processor(), "versions": versions()}


def processor() -> str:
    """The processor's name, and those of its instructions that decide how fast bfloat16 is."""
    path = Path("/proc/cpuinfo")
    words = set(path.read_text(encoding="utf-8").split()) if path.is_file() else set()
    found = sorted(words & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"})
    return f"{processor_name()} ({', '.join(found) or 'flags unknown'})"


def alternate(
    peer: Callable[[], Repetition], ours: Callable[[], Repetition], repetitions: int
) -> tuple[list[Repetition], list[Repetition]]:
    """Turns of both sides, one after the other; who begins changes, so that a drift of the machine favours neither."""
    done: tuple[list[Repetition], list[Repetition]] = ([], [])
    for number in range(repetitions):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            done[side].append((peer, ours)[side]())
    return done


def largest_difference(first: Sequence[float], second: Sequence[float], scales: Sequence[float] | None = None) -> float:
    """The largest distance between two lists of numbers, each divided by its scale; NaN if any is not finite."""
    units = scales or [1.0] * len(first)
    parts = [abs(a - b) / unit for a, b, unit in zip(first, second, units, strict=True)]
    return largest(parts) if all(map(math.isfinite, parts)) else math.nan


def largest(differences: Sequence[float]) -> float:
    """The largest of some differences; NaN if any is."""
    return math.nan if any(map(math.isnan, differences)) else max(differences)


def require_same_tokens(peer: Sequence[str], ours: Sequence[str]) -> None:
    """Both sides must read the same token ids, row by row, or nothing that follows can be compared.

    Raises:
        ValueError: they do not.
    """
    if len(peer) != len(ours):
        raise ValueError(f"the peer has {len(peer)} rows, seralign {len(ours)}")
    for row, (theirs, own) in enumerate(zip(peer, ours, strict=True)):
        if theirs != own:
            raise ValueError(f"row {row}: the two sides read different token ids")


def comparison(
    peer: Sequence[Repetition],
    ours: Sequence[Repetition],
    peaks_mb: tuple[float, float],
    checks: Sequence[Check],
) -> dict[str, Any]:
    """The figures that every benchmark gives; ``peaks_mb`` are the peer's and ours.

    ``ratio_speed`` is our median rate over the peer's, ``ratio_memory`` our peak over the peer's.
    """
    medians = [statistics.median(turn.rate for turn in turns) for turns in (peer, ours)]
    return {
        "ratio_speed": round(medians[1] / medians[0], 3),
        "ratio_memory": round(peaks_mb[1] / peaks_mb[0], 3),
        "equal": bool(checks) and all(check.passed for check in checks),
        "ratio_speed_of_each_repetition": [round(b.rate / a.rate, 3) for a, b in zip(peer, ours, strict=True)],
        "checks": [
            {
                "what": check.name,
                "difference": check.difference if math.isfinite(check.difference) else None,
                "tolerance": check.tolerance,
                "passed": check.passed,
            }
            for check in checks
        ],
        "peer": _side(peer, medians[0], peaks_mb[0]),
        "ours": _side(ours, medians[1], peaks_mb[1]),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that do the work."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _LIBRARIES}


def _side(turns: Sequence[Repetition], median: float, peak_mb: float) -> dict[str, Any]:
    return {
        "rate_median": round(median, 3),
        "rates": [round(turn.rate, 3) for turn in turns],
        "seconds": [round(turn.seconds, 3) for turn in turns],
        "amount": turns[0].amount,
        "peak_memory_mb": round(peak_mb),
    }
