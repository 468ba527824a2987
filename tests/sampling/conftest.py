"""Fixtures of the tests that sample from the stand-in for vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stand_in import save_package

from seralign.sampling import vllm
from seralign.servers import client as client_module


@pytest.fixture
def own_servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Requests that fail are soon repeated, and no server outlives the test."""
    monkeypatch.setattr(client_module, "_FIRST_WAIT", 0.01)
    yield
    vllm._KEEPER.release()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stand-in for the package ``vllm``."""
    return save_package(tmp_path_factory.mktemp("package"))
