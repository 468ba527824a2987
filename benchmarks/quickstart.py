"""The demo's cost: wall time, peak memory, cache hits, and what being killed costs.

    python -m benchmarks.quickstart --json FILE

Runs ``seralign demo`` three times in a temporary folder: uninterrupted; once more on the finished run; and in
another folder killed in the middle of round 2's training and started again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from seralign.runs import Run, read_run


def command(out: Path) -> list[str]:
    """The demo's command, in another folder."""
    return [sys.executable, "-m", "seralign.cli.main", "demo", "--out", str(out)]


def timed(out: Path) -> float:
    """Seconds that the command takes to its end."""
    began = time.monotonic()
    subprocess.run(command(out), check=True, capture_output=True)
    return time.monotonic() - began


def killed(out: Path) -> float:
    """Seconds until the command is killed, in the middle of round 2's training."""
    began = time.monotonic()
    process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    policy = out / "round-2" / "train.partial" / "reference_heldout.parquet"
    while not policy.is_file():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    time.sleep(2.0)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return time.monotonic() - began


def hit_rate(run: Run, index: int) -> float:
    """Share of a round's offline log-probabilities that the cache had."""
    figures = run.record(f"round-{index}/score").figures
    return figures["cache_hits"] / (figures["cache_hits"] + figures["cache_misses"])


def weights(run: Run) -> list[str]:
    """The digests of all policies of a run."""
    return [record.figures["digest"] for record in run.stages() if record.name.endswith("/train")]


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        whole, broken = Path(scratch) / "whole", Path(scratch) / "broken"
        wall = timed(whole)
        again = timed(whole)
        first = killed(broken)
        second = timed(broken)
        run = read_run(whole)
        figures: dict[str, Any] = {
            "wall_seconds": round(wall, 1),
            "peak_memory_mb": max(record.peak_memory_mb for record in run.stages()),
            "cache_hit_rate_round_3": round(hit_rate(run, 3), 3),
            "finished_run_again_seconds": round(again, 1),
            "killed_and_resumed_seconds": round(first + second, 1),
            "resume_overhead_seconds": round(first + second - wall, 1),
            "equal": sorted(weights(run)) == sorted(weights(read_run(broken))),
        }
    print(json.dumps(figures, indent=1))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
