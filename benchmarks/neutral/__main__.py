"""Run a revision and the working tree on the same small runs, and compare what they found to the last bit.

    make neutral BASE=main
    python -m benchmarks.neutral main [--keep DIR]

Both run on one thread, in one process, on the CPU: the runs of ``default.yaml`` and ``crossfit.yaml``, each tree with
its own copy of the two files. The comparison covers the weights of all trainings and of the result, what each round
selected and why, margins, rewards, answers, training metrics and figures. It takes about a minute.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from benchmarks.neutral.compare import differences
from benchmarks.neutral.facts import Facts, ReadingError, read_facts

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
VARIANTS = ("default", "crossfit")


def main(arguments: list[str]) -> int:
    """The exit status: 0 where both trees found the same, 1 where not, 2 where one of them cannot run or be read."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neutral", description=__doc__.split("\n")[0])
    parser.add_argument("base", help="revision to compare the working tree with")
    parser.add_argument("--keep", type=Path, help="new folder for the runs, to look at them afterwards")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        checkout = Path(scratch, "base")
        try:
            _git("worktree", "add", "--quiet", "--detach", str(checkout), asked.base)
            return _compared(checkout, asked.keep or Path(scratch, "runs"))
        except (ReadingError, subprocess.CalledProcessError) as error:
            print(error, file=sys.stderr)
            return 2
        finally:
            if checkout.exists():
                _git("worktree", "remove", "--force", str(checkout))


def _compared(checkout: Path, folder: Path) -> int:
    found = []
    for variant in VARIANTS:
        base, tree = (_facts(root, variant, folder / name) for name, root in (("base", checkout), ("tree", ROOT)))
        found += [f"{variant}: {line}" for line in differences(base, tree)]
        print(f"{variant}: {sum(map(len, tree.values()))} values in {len(tree)} series compared", flush=True)
    print("\n".join(found) if found else "neutral: both trees found the same, to the last bit")
    return 1 if found else 0


def _facts(root: Path, variant: str, folder: Path) -> Facts:
    """Run a variant by a tree, in a folder of its own, and read what it found."""
    (folder / variant).mkdir(parents=True)
    own = root / HERE.relative_to(ROOT) / f"{variant}.yaml"
    settings = own if own.exists() else HERE / f"{variant}.yaml"
    module, function = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]["seralign"].split(":")
    program = f"import sys; sys.argv[0] = 'seralign'; import {module} as m; sys.exit(m.{function}())"
    environment = os.environ | {"PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    # The configuration gives a relative folder, the same for both trees, so no text of a run differs by its path.
    command = [sys.executable, "-P", "-c", program, "train", str(settings)]
    log = folder / f"{variant}.log"
    with log.open("w") as output:
        done = subprocess.run(command, cwd=folder / variant, env=environment, stdout=output, stderr=output, check=False)
    if done.returncode:
        raise ReadingError(f"{root}: the run failed:\n{log.read_text()[-2000:]}")
    return read_facts(folder / variant / "run")


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
