"""The world of the tests of reinforcement learning."""

from __future__ import annotations

from pathlib import Path

import pytest

from seralign.config import WorldConfig
from seralign.laboratory.world import make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rlhf") / "world"
    make_world(WorldConfig(pairs=8, demonstrations=8, prompts=20, heldout=4), folder)
    return folder
