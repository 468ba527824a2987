"""Random inputs, in worker processes that may hang or die without losing the count."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fuzz.target import Target, attempt
from fuzz.targets import TARGETS

# Seconds that one input may take. The slowest honest one takes a tenth of it on a busy machine.
PATIENCE = 20
# Findings of one place that are written down; the others are counted.
SAME = 3


@dataclass(frozen=True)
class Finding:
    """An input that did not end cleanly; ``number`` and the seed make it again. ``place``: where it failed."""

    target: str
    seed: int
    number: int
    error: str
    place: str
    trace: str
    made: str


@dataclass
class Count:
    """Inputs tried so far."""

    tried: int = 0
    accepted: int = 0
    findings: int = 0


class TooSlow(BaseException):
    """An input took longer than ``PATIENCE``; no ``Exception``, so that nothing on the way swallows it."""


def make_input(target: Target, seed: int, number: int) -> Any:
    """The input of this number."""
    return target.make(random.Random(f"{target.name}:{seed}:{number}"))


def fuzz(target: Target, seed: int, count: int, jobs: int, findings: Path) -> Count:
    """Try ``count`` inputs of a target; findings are written to a folder as they come, the rate is printed."""
    context = multiprocessing.get_context("spawn")
    queue: Any = context.SimpleQueue()
    at = [context.Value("q", job) for job in range(jobs)]
    workers = [_start(context, target, seed, count, jobs, at[job], queue) for job in range(jobs)]
    total, began, told = Count(), time.monotonic(), time.monotonic()
    places: Counter[str] = Counter()
    while any(worker.is_alive() for worker in workers) or not queue.empty():
        while not queue.empty():
            message = queue.get()
            if isinstance(message, Finding):
                _keep(message, findings, places)
                total.findings += 1
            else:
                total.tried, total.accepted = total.tried + message[0], total.accepted + message[1]
        for job, worker in enumerate(workers):
            if not worker.is_alive() and worker.exitcode:
                number = at[job].value
                made = repr(make_input(target, seed, number))
                died = f"the process ended with exit code {worker.exitcode}"
                _keep(Finding(target.name, seed, number, died, "process", "", made), findings, places)
                total.findings, total.tried = total.findings + 1, total.tried + 1
                at[job].value = number + jobs
                workers[job] = _start(context, target, seed, count, jobs, at[job], queue)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            _tell(target, total, count, told - began)
        time.sleep(0.2)
    _tell(target, total, count, time.monotonic() - began)
    return total


def _start(context: Any, target: Target, seed: int, count: int, jobs: int, at: Any, queue: Any) -> Any:
    worker = context.Process(target=_work, args=(target.name, seed, count, jobs, at, queue))
    worker.start()
    return worker


def _work(name: str, seed: int, count: int, jobs: int, at: Any, queue: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _too_slow)
    target = TARGETS[name]
    tried = accepted = 0
    null = Path(os.devnull).open("w")  # noqa: SIM115
    with tempfile.TemporaryDirectory() as scratch, null, contextlib.redirect_stderr(null):
        while at.value < count:
            number = at.value
            made = make_input(target, seed, number)
            try:
                with _limited():
                    accepted += attempt(target, made, Path(scratch))
            except (Exception, TooSlow, RecursionError, SystemExit) as error:
                text, trace = f"{type(error).__name__}: {error}", traceback.format_exc(limit=-8)
                place = f"{type(error).__name__} {_place(error)}"
                queue.put(Finding(name, seed, number, text[:2000], place, trace[-6000:], repr(made)[:20000]))
            tried += 1
            if tried == 200:
                queue.put((tried, accepted))
                tried = accepted = 0
            at.value = number + jobs
        queue.put((tried, accepted))


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    signal.warning(PATIENCE)
    try:
        yield
    finally:
        signal.warning(0)


def _too_slow(*_: object) -> None:
    raise TooSlow(f"more than {PATIENCE} s")


def _place(error: BaseException) -> str:
    """The last line of ours that the error passed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "seralign" in frame.filename] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"


def _keep(finding: Finding, folder: Path, places: Counter[str]) -> None:
    """Write a finding, unless there are some of its place already."""
    places[finding.place] += 1
    if places[finding.place] > SAME:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{finding.target}-{finding.seed}-{finding.number}.json"
    path.write_text(json.dumps(asdict(finding), indent=1), encoding="utf-8")
    print(f"finding: {finding.place}: {finding.error[:160]!r}  {path}", flush=True)


def _tell(target: Target, total: Count, count: int, seconds: float) -> None:
    rate = total.tried / max(seconds, 1e-9)
    share = total.accepted / max(total.tried, 1)
    left = (count - total.tried) / rate if rate else 0.0
    print(
        f"{target.name}: {total.tried:,} of {count:,} inputs, {rate:,.0f} a second, {left:,.0f} s left; "
        f"{share:.0%} accepted, {total.findings} findings",
        flush=True,
    )
