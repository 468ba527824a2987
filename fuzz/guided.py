"""Coverage-guided inputs: atheris chooses the bytes, hypothesis makes the generator's choices of them."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.target import Target, attempt


def fuzz_guided(target: Target, count: int, seed: int) -> None:
    """Run atheris on a target; it ends at the first finding, with its traceback, or after ``count`` inputs."""
    import atheris

    # What seralign itself runs is what coverage should grow in; its libraries would drown it.
    atheris.instrument_all()

    with tempfile.TemporaryDirectory() as scratch:

        @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.randoms(use_true_random=False))
        def one(source: random.Random) -> None:
            attempt(target, target.make(source), Path(scratch))

        arguments = [sys.argv[0], f"-runs={count}", f"-seed={seed}", "-timeout=20", "-max_len=8192"]
        atheris.Setup(arguments, one.hypothesis.fuzz_one_input)
        atheris.Fuzz()
