"""LoRA policies on one server of their base, with a stand-in for vLLM.

``tests/sampling/test_vllm.py`` runs the real one.
"""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import tiny
from stand_in import Sampling, kill_server, policy_of

from seralign.config import SamplingConfig
from seralign.config.engines import VllmConfig
from seralign.errors import ConfigError
from seralign.policy.identity import PolicySource, weights_digest
from seralign.runs.results import Results
from seralign.sampling import connecting, vllm, vllm_server
from seralign.sampling.lora import adapter_name
from seralign.sampling.vllm_server import loads_adapters

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("own_servers")]


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
    monkeypatch.setattr(vllm_server, "running", sampling.in_this_process)
    return sampling


def name_of(source: PolicySource) -> str:
    return adapter_name(weights_digest(source))


def test_one_server_of_the_base_loads_the_adapter_of_each_round(
    quick: Sampling,
    rounds: tuple[PolicySource, PolicySource],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The responses are those of the merged weights, which a server on a processor has by default.

    The base is read once, and each sampling asks for the log-probabilities of the proof once.
    """
    first, second = rounds
    original, proofs = connecting._logps, list[int]()
    monkeypatch.setattr(connecting, "_logps", lambda *given: (proofs.append(1), original(*given))[1])
    vllm._digest_of_base.cache_clear()
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
    assert len(proofs) == 3
    assert vllm._digest_of_base.cache_info().misses == 1
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
        (
            "no-lora",
            "it does not start with --enable-lora (bootstrap.engine_options: vLLM ended with status 1; it says: "
            "ValueError: LlamaForCausalLM does not support LoRA yet.)",
            2,
            0,
        ),
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


def test_a_server_that_fails_while_it_loads_an_adapter_is_an_error_and_tried_again(
    quick: Sampling, rounds: tuple[PolicySource, PolicySource]
) -> None:
    quick.env["FAULT"] = "fail"
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"load_lora_adapter answers with status 500: .*; give the same command"):
            quick(rounds[0], "a")
    assert [start["model"] for start in quick.starts] == [rounds[0].model]
    assert len(quick.adapters) == 2


def test_a_server_that_is_not_ready_in_time_is_an_error(
    sampling: Sampling, rounds: tuple[PolicySource, PolicySource], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"^bootstrap\.engine_options: vLLM was not ready within 0.01 s"):
        sampling(rounds[0], "a", wait=0.01)
    assert "merged" not in capsys.readouterr().err


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
    ("options", "gpu", "loads"),
    [
        ({}, False, False),
        ({}, True, False),
        ({"keep": True}, True, True),
        ({"env": {"CUDA_VISIBLE_DEVICES": "1"}}, False, True),
        ({"env": {"CUDA_VISIBLE_DEVICES": "1"}}, True, True),
        ({"env": {"CUDA_VISIBLE_DEVICES": ""}}, True, False),
        ({"env": {"CUDA_VISIBLE_DEVICES": "-1"}}, True, False),
        ({"env": {"CUDA_VISIBLE_DEVICES": "1"}, "keep": False}, True, False),
        ({"env": {"CUDA_VISIBLE_DEVICES": "1"}, "adapters": False}, True, False),
        ({"adapters": True}, False, True),
    ],
)
def test_adapters_are_loaded_by_a_server_that_is_kept_and_has_a_gpu(
    options: dict[str, Any], gpu: bool, loads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert loads_adapters(VllmConfig("python", **options)) == loads


def sampler_of(source: PolicySource, **options: Any) -> vllm.VllmSampler:
    settings = SamplingConfig(engine="vllm", engine_options={"python": sys.executable} | options)
    return vllm.VllmSampler(policy_of(source), settings, "bootstrap")


@pytest.mark.parametrize(
    ("options", "gpu", "kept"),
    [
        ({}, True, False),
        ({"keep": False}, False, False),
        ({"keep": True}, True, True),
        ({"env": {"CUDA_VISIBLE_DEVICES": "1"}}, True, True),
    ],
)
def test_a_server_that_is_not_kept_loads_no_adapters(
    options: dict[str, Any], gpu: bool, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the policy is compared with would be loaded while the server has the memory."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    refused = pytest.raises(ConfigError, match=r"^bootstrap\.engine_options\.adapters needs a server that is kept")
    with nullcontext() if kept else refused:
        sampler_of(PolicySource("base", adapter="adapter"), adapters=True, **options)


def test_loaded_and_merged_adapters_have_answers_of_their_own() -> None:
    """Those of merged adapters are named as those of whole models are."""
    source = PolicySource("base", adapter="adapter")
    merged = sampler_of(source, adapters=False, keep=True).identity
    assert sampler_of(source, adapters=True, keep=True).identity == f"{merged}, adapters"
    assert sampler_of(PolicySource("base"), adapters=True, keep=True).identity == merged
