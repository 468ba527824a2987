"""``python -m fuzz``: try many inputs, and say how many."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fuzz.engine import fuzz, make_input
from fuzz.targets import TARGETS


def main() -> int:
    """Returns 1 where an input did not end cleanly."""
    parser = argparse.ArgumentParser("python -m fuzz", description="Try random inputs on everything that reads them.")
    parser.add_argument("--target", choices=[*TARGETS, "all"], default="all")
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs, over all targets by their shares")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--findings", type=Path, default=Path("runs/fuzz"), help="a folder for inputs to look at")
    parser.add_argument("--number", type=int, help="make and read one input again, with its traceback")
    given = parser.parse_args()
    if given.target == "all" and given.number is not None:
        parser.error("--number needs --target")
    if given.number is not None:
        made = make_input(TARGETS[given.target], given.seed, given.number)
        print(made)
        given.findings.mkdir(parents=True, exist_ok=True)
        TARGETS[given.target].read(made, given.findings)
        return 0
    chosen = [TARGETS[given.target]] if given.target != "all" else list(TARGETS.values())
    tried = found = 0
    for target in chosen:
        count = given.count if len(chosen) == 1 else round(given.count * target.share)
        total = fuzz(target, given.seed, count, given.jobs, given.findings)
        tried, found = tried + total.tried, found + total.findings
    print(f"{tried:,} inputs tried, {found} did not end cleanly")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
