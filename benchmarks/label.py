"""What a labelling costs: prompts a second and peak memory of the main process, by number of rows.

    python -m benchmarks.label --json FILE --rows 100000 1000000

Made-up rows of a prompt and two responses of about 40 words, and a check in pure Python (the share of different words
of a response). Time is that of the whole command, from the start of Python to the file of pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = tuple(f"word{number}" for number in range(500))
CONFIG = """
out: pairs.jsonl
data: {path: raw.jsonl, responses: responses}
signals: [{name: "benchmarks.label:different_words", temperature: 0.1}]
"""


def different_words(prompt: str, response: str, row: dict[str, Any]) -> float:
    """The share of different words."""
    words = response.split()
    return len(set(words)) / max(1, len(words))


def write_rows(path: Path, rows: int, seed: int = 0) -> None:
    """Write a file of candidates."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            responses = [" ".join(draw.choices(WORDS, k=draw.randint(20, 60))) for _ in range(2)]
            file.write(json.dumps({"prompt": f"Question {number}?", "responses": responses}) + "\n")


def measure(rows: int, folder: Path) -> dict[str, Any]:
    """Label so many rows in an empty folder."""
    write_rows(folder / "raw.jsonl", rows)
    (folder / "label.yaml").write_text(CONFIG, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "benchmarks.label", "--inside"]
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.monotonic() - began
    with (folder / "pairs.jsonl").open(encoding="utf-8") as stream:
        pairs = sum(1 for _ in stream)
    size = (folder / "raw.jsonl").stat().st_size
    peaks = json.loads(done.stdout.splitlines()[-1])
    return {
        "rows": rows,
        "megabytes": round(size / 1e6, 1),
        "pairs": pairs,
        "seconds": round(seconds, 1),
        "prompts_a_second": round(rows / seconds),
    } | peaks


def _inside() -> None:
    """The labelling itself, in a process of its own; prints its peak memory."""
    from benchmarks.workers import peak_memory_mb
    from seralign.cli.main import main

    code = main(["label", "label.yaml"])
    print(json.dumps({"peak_memory_mb": round(peak_memory_mb())}))
    sys.exit(code)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000], help="numbers of rows (default: 100000)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        _inside()
    # Not at the top: the processes for checks import this module, too.
    from benchmarks.common import processor

    found = []
    for rows in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(rows, Path(folder)))
    text = json.dumps(
        {"benchmark": "label", "cores": os.cpu_count(), "processor": processor(), "runs": found}, indent=1
    )
    print(text)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    _main()
