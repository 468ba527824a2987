"""Every reader of a user's input accepts it or refuses it in one line; ``make fuzz`` tries many more inputs."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))

from fuzz.target import Target, Unclean, attempt
from fuzz.targets import TARGETS
from seralign.errors import DataError


@pytest.mark.parametrize("name", TARGETS)
@settings(deadline=None, derandomize=True, max_examples=30, suppress_health_check=list(HealthCheck))
@given(source=st.randoms(use_true_random=False))
def test_inputs_end_cleanly(name: str, source: random.Random, tmp_path_factory: pytest.TempPathFactory) -> None:
    target = TARGETS[name]
    assert attempt(target, target.make(source), tmp_path_factory.getbasetemp()) in (True, False)


def _refusing(message: str) -> Target:
    def read(made: object, folder: Path) -> None:
        raise DataError(message)

    return Target("refusing", 1.0, lambda source: None, read)


def test_a_refusal_says_why(tmp_path: Path) -> None:
    assert not attempt(_refusing("row 1 is wrong"), None, tmp_path)
    with pytest.raises(Unclean):
        attempt(_refusing(" "), None, tmp_path)
