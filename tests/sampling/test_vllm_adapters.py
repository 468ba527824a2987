"""LoRA policies on one server of their base, with a stand-in for vLLM.

``tests/sampling/test_vllm.py`` runs the real one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from safetensors.torch import load_file, save_file
from stand_in import Sampling, kill_server, save_package

from seralign.config.engines import VllmConfig
from seralign.errors import ConfigError
from seralign.policy.identity import PolicySource, weights_digest
from seralign.runs.results import Results
from seralign.sampling import vllm
from seralign.sampling.lora import AdapterRefused, adapter_name, server_arguments
from seralign.servers import client as client_module

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(client_module, "_FIRST_WAIT", 0.01)
    yield
    vllm._KEEPER.release()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> tuple[PolicySource, PolicySource]:
    """Two adapters on one base."""
    folder = tmp_path_factory.mktemp("rounds")
    base = tiny.save_model(folder / "base")
    return tiny.save_adapter(folder / "first", base), tiny.save_adapter(folder / "second", base, seed=1)


@pytest.fixture
def sampling(package: Path, tmp_path: Path) -> Sampling:
    return Sampling(package, tmp_path)


@pytest.fixture
def quick(sampling: Sampling, monkeypatch: pytest.MonkeyPatch) -> Sampling:
    monkeypatch.setattr(vllm, "running", sampling.in_this_process)
    return sampling


def name_of(source: PolicySource) -> str:
    return adapter_name(weights_digest(source))


def test_one_server_of_the_base_loads_the_adapter_of_each_round(
    quick: Sampling, rounds: tuple[PolicySource, PolicySource], capsys: pytest.CaptureFixture[str]
) -> None:
    """The responses are those of the merged weights, which a server on a processor has by default."""
    first, second = rounds
    one = quick(first, "a")
    assert quick(first, "b").equals(one)
    two = quick(second, "a", "round 2", before=first)
    assert one["ids"] != two["ids"]
    (start,) = quick.starts
    assert (start["model"], start["max_lora_rank"]) == (first.model, "8")
    assert start["lora_target_modules"] == [
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
    ]  # fmt: skip
    assert quick.adapters == [
        ("load_lora_adapter", name_of(first), first.adapter),
        ("unload_lora_adapter", name_of(first)),
        ("load_lora_adapter", name_of(second), second.adapter),
    ]
    assert quick(first, "c", adapters=None).equals(one), "there is no GPU"
    assert not quick.starts[1]["enable_lora"]
    assert len(quick.adapters) == 3
    told = capsys.readouterr().err
    assert "merged" not in told
    assert "warning" not in told


def test_a_server_that_answers_as_the_base_is_refused(
    quick: Sampling, rounds: tuple[PolicySource, PolicySource]
) -> None:
    source = rounds[0]
    quick.env["FAULT"] = "ignore"
    says = f"still serves the weights of the base of round 1 ({source.model}) in place of those of round 1 ({source})"
    with pytest.raises(ConfigError, match=re.escape(says)):
        quick(source, "a")


def test_a_server_that_answers_as_the_adapter_before_is_refused(
    quick: Sampling, rounds: tuple[PolicySource, PolicySource]
) -> None:
    first, second = rounds
    quick.env["FAULT"] = "stale"
    quick(first, "a")
    says = f"still serves the weights of the round before ({first}) in place of those of round 2 ({second})"
    with pytest.raises(ConfigError, match=re.escape(says)):
        quick(second, "a", "round 2", before=first)


def test_an_adapter_with_other_weights_is_an_error_that_names_both(
    quick: Sampling, rounds: tuple[PolicySource, PolicySource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it would be if another folder was loaded under the name of this policy."""
    first, second = rounds
    original = vllm.load_adapter
    monkeypatch.setattr(vllm, "load_adapter", lambda client, _, key: original(client, Path(str(first.adapter)), key))
    says = f"not serve the weights of round 2 ({second}), but {name_of(second)} ({first.adapter}): log-probabilities"
    with pytest.raises(ConfigError, match=re.escape(says)):
        quick(second, "a", "round 2")


@pytest.mark.parametrize(
    ("fault", "says", "servers", "loads"),
    [
        ("refuse", "load_lora_adapter answers with status 400: ", 3, 1),
        ("no-lora", "it does not start with --enable-lora (", 2, 0),
    ],
)
def test_a_server_that_loads_no_adapter_is_replaced_by_one_of_the_merged_weights(
    fault: str,
    says: str,
    servers: int,
    loads: int,
    quick: Sampling,
    rounds: tuple[PolicySource, PolicySource],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is said in each round, and tried once."""
    quick.env["FAULT"] = fault
    for number, source in enumerate(rounds, start=1):
        assert len(quick(source, "a", f"round {number}")) == 15
        told = " ".join(capsys.readouterr().err.split())
        assert f"vLLM serves round {number} with its adapter merged" in told
        assert says in told
    assert len(quick.starts) == servers
    assert [start["model"] for start in quick.starts].count(rounds[0].model) == loads
    assert len(quick.adapters) == loads


def test_an_adapter_that_vllm_would_serve_otherwise_is_merged_without_trying(
    quick: Sampling, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tiny.save_adapter(tmp_path / "dora", tiny.save_model(tmp_path / "base"), use_dora=True)
    assert len(quick(source, "a")) == 15
    (start,) = quick.starts
    assert start["model"] != source.model
    told = " ".join(capsys.readouterr().err.split())
    assert f"with its adapter merged, because it cannot load {source.adapter}: it has use_dora" in told


def test_a_server_that_is_killed_is_started_again_with_the_adapter(
    sampling: Sampling, rounds: tuple[PolicySource, PolicySource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that was stored is asked again, and nothing is stored twice. Both servers are processes."""
    first, second = rounds
    sampling.options["parallel"] = 1
    sampling(first, "first")
    original, kept = Results.put, list[bytes]()

    def put(self: Results, values: Any) -> None:
        original(self, values)
        kept.extend(values)
        if len(kept) == 2:
            kill_server(vllm._KEEPER._server.pid)  # pyright: ignore[reportOptionalMemberAccess]

    monkeypatch.setattr(Results, "put", put)
    with pytest.raises(ConfigError, match=r"(?s)no connection.*vLLM has ended; it says:"):
        sampling(second, "a")
    assert 2 <= len(kept) < 5
    assert len(sampling.starts) == 1
    assert len(sampling(second, "a")) == 15
    assert len(kept) == len(set(kept)) == 5
    assert len(sampling.starts) == 2
    loaded = ("load_lora_adapter", name_of(second), second.adapter)
    assert sampling.adapters[1:] == [("unload_lora_adapter", name_of(first)), loaded, loaded]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"use_dora": True}, "it has use_dora"),
        ({"rank_pattern": {"q_proj": 2}}, "it has rank_pattern"),
        ({"alpha_pattern": {"q_proj": 2}}, "it has alpha_pattern"),
        ({"modules_to_save": ["norm"]}, "it has modules_to_save"),
        ({"trainable_token_indices": [3]}, "it has trainable_token_indices"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens.* is no low-rank matrix"),
        ({"target_modules": ["q_proj", "lm_head"]}, "lm_head.base_layer.weight, which is no low-rank matrix"),
        ({"r": 520, "target_modules": ["q_proj"]}, "its rank is 520, over 512"),
    ],
)
def test_adapters_that_vllm_would_not_serve_as_peft_does_are_refused(
    settings: dict[str, Any], says: str, tmp_path: Path
) -> None:
    tiny.save_adapter(tmp_path / "adapter", tiny.save_model(tmp_path / "base"), **settings)
    with pytest.raises(AdapterRefused, match=says):
        server_arguments(tmp_path / "adapter")


@pytest.mark.parametrize(("r", "rank"), [(4, 8), (8, 8), (9, 16), (512, 512)])
def test_the_server_has_room_for_the_rank_of_the_adapter(r: int, rank: int, tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    tiny.save_adapter(tmp_path / "adapter", base, r=r, use_rslora=True, target_modules=["q_proj"])
    assert server_arguments(tmp_path / "adapter")[1:] == (
        "--max-lora-rank", str(rank), "--lora-target-modules", "q_proj",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"peft_type": "LOHA"}, "its kind is LOHA, not LORA"),
        ({"lora_bias": True}, "it has lora_bias"),
        ({"init_lora_weights": "pissa"}, "it has init_lora_weights pissa"),
        ({"setting_of_a_later_peft": 1}, "it has setting_of_a_later_peft"),
    ],
)
def test_settings_that_are_not_known_are_refused(setting: dict[str, Any], says: str, tmp_path: Path) -> None:
    file = tmp_path / "adapter" / "adapter_config.json"
    tiny.save_adapter(tmp_path / "adapter", tiny.save_model(tmp_path / "base"))
    file.write_text(json.dumps(json.loads(file.read_text()) | setting))
    with pytest.raises(AdapterRefused, match=says):
        server_arguments(tmp_path / "adapter")


def test_low_rank_matrices_of_an_embedding_are_refused(tmp_path: Path) -> None:
    """PEFT saves the whole matrix with them unless it is told not to."""
    tiny.save_adapter(tmp_path / "adapter", tiny.save_model(tmp_path / "base"), target_modules=["q_proj", "lm_head"])
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: value for name, value in load_file(file).items() if ".lora_" in name}, file)
    with pytest.raises(AdapterRefused, match="it changes the embedding lm_head"):
        server_arguments(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("options", "loads"),
    [
        ({}, False),
        ({"env": {"CUDA_VISIBLE_DEVICES": "1"}}, True),
        ({"env": {"CUDA_VISIBLE_DEVICES": ""}}, False),
        ({"env": {"CUDA_VISIBLE_DEVICES": "1"}, "keep": False}, False),
        ({"env": {"CUDA_VISIBLE_DEVICES": "1"}, "adapters": False}, False),
        ({"adapters": True}, True),
    ],
)
def test_adapters_are_loaded_by_a_server_that_is_kept_and_has_a_gpu(
    options: dict[str, Any], loads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert vllm._loads_adapters(VllmConfig("python", **options)) == loads
