"""``python -m fuzz.guided TARGET``: atheris chooses inputs by coverage, hypothesis makes choices of its bytes.

It ends at the first finding, with the traceback, or after ``--count`` inputs. Needs ``pip install '.[fuzz]'``.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

import atheris
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# Coverage of seralign is what should grow; that of its libraries would drown it.
with atheris.instrument_imports(include=["seralign"]):
    from fuzz.target import attempt
    from fuzz.targets import TARGETS


def main() -> None:
    """Ends the process, as atheris does."""
    parser = argparse.ArgumentParser("python -m fuzz.guided")
    parser.add_argument("target", choices=[*TARGETS])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    target = TARGETS[chosen.target]
    with tempfile.TemporaryDirectory() as scratch:

        @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.randoms(use_true_random=False))
        def one(source: random.Random) -> None:
            attempt(target, target.make(source), Path(scratch))

        arguments = [sys.argv[0], f"-runs={chosen.count}", f"-seed={chosen.seed}", "-timeout=20", "-max_len=8192"]
        atheris.Setup(arguments, one.hypothesis.fuzz_one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
