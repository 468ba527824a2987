"""What all tests share: one thread, no network, and tiny saved models (see ``tiny``)."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Callable, Iterator

import datasets
import pytest
import serving
import text_model
import tiny
import torch
from hypothesis import settings

from seralign.policy.identity import PolicySource
from seralign.policy.speed import Rates

torch.set_num_threads(1)
datasets.disable_progress_bars()
# The time of one example says nothing where cores are shared.
settings.register_profile("shared-cores", deadline=None)
settings.load_profile("shared-cores")


@pytest.fixture(scope="session", autouse=True)
def _one_processor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """``auto`` is float32 wherever the tests run: no test's numbers are those of one processor.

    Commands in processes of their own do probe; what they find is kept with the tests' files.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("seralign.pipeline.precision.processor_rates", lambda shape: Rates(float32=50.0, bfloat16=50.0))
        yield


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PolicySource]:
    """A saved tiny model by the name of its architecture. Read only: tests that change files copy the folder."""
    made: dict[str, PolicySource] = {}

    def get(name: str) -> PolicySource:
        if name not in made:
            made[name] = tiny.save_model(tmp_path_factory.mktemp(name), name)
        return made[name]

    return get


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving.Served]:
    """A real server, ``transformers serve``, of a tiny random model that reads and writes any text."""
    folder = tmp_path_factory.mktemp("served")
    text_model.save_text_model(folder, text_model.CHAT_TEMPLATE)
    with serving.serve(folder) as server:
        yield server
