"""A hub that does not answer is found out within seconds, and is not asked again."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets.config
import pytest
from data.stand_in_hub import Hub, serve
from huggingface_hub import constants

import seralign.hub
from seralign.config import PolicyConfig, SourceConfig
from seralign.data.sources import load_rows
from seralign.errors import DataError, ModelError
from seralign.policy.admission import check_model
from seralign.policy.identity import PolicySource, fetch
from seralign.policy.load import load_tokenizer

At = Callable[[str], None]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Iterator[At]:
    """Sets the address of the hub, as HF_ENDPOINT would at the start of a process."""

    def set_endpoint(url: str) -> None:
        for module in (constants, datasets.config):
            monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", url)
        seralign.hub.silence.cache_clear()

    monkeypatch.setattr(seralign.hub, "SECONDS", 0.5)
    yield set_endpoint
    seralign.hub.silence.cache_clear()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_hub_that_answers_is_not_silent(at: At) -> None:
    with serve(Hub()) as hub:
        at(hub.url)
        assert seralign.hub.silence() is None
        assert not constants.is_offline_mode()


def test_a_silent_hub_is_left_alone_after_the_first_time(at: At, silent: str, tmp_path: Path) -> None:
    at(silent)
    begun = time.monotonic()
    why = rf"the hub cannot be reached: {silent} \(HF_ENDPOINT\): (no answer within 0\.5 s|.*timed out)\. After a first"
    for _ in range(2):
        with pytest.raises(ModelError, match=rf"^policy\.model: there is no folder some/model here, and {why}"):
            fetch(PolicySource("some/model"))
        with pytest.raises(ModelError, match=rf"^reference\.model: there is no folder some/model here, and {why}"):
            check_model(PolicySource("some/model"), PolicyConfig(model="some/model"), "reference")
        with pytest.raises(ModelError, match=rf"^policy\.tokenizer: there is no folder some/model here, and {why}"):
            load_tokenizer(PolicySource("some/model"), PolicyConfig(tokenizer="some/model"))
        with pytest.raises(DataError, match=rf"^data\.pairs\.path: there is no file 'some/data' here, and {why}"):
            load_rows(SourceConfig("some/data"), "data.pairs")
    assert time.monotonic() - begun < 5, "one request of half a second, and no second one"
    assert constants.is_offline_mode()


def test_a_hub_without_a_server_is_named_with_the_reason(at: At) -> None:
    at("http://127.0.0.1:9")
    assert (seralign.hub.silence() or "").startswith("http://127.0.0.1:9 (HF_ENDPOINT): ")


def test_without_a_network_by_choice_nothing_is_asked(at: At, silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at(silent)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    begun = time.monotonic()
    assert seralign.hub.silence() == "HF_HUB_OFFLINE is set"
    assert time.monotonic() - begun < 0.2
