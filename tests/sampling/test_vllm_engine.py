"""The engine ``vllm`` with a stand-in for vLLM's server: when it is started, stopped and refused.

``tests/sampling/test_vllm.py`` runs the real one.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from stand_in import ENDS, Sampling, kill_server

from seralign.config import PolicyConfig, SamplingConfig
from seralign.config.engines import VllmConfig
from seralign.errors import ConfigError
from seralign.policy.identity import PolicySource, weights_digest
from seralign.runs.results import Results
from seralign.sampling import SampledPolicy, make_sampler, vllm
from seralign.sampling.vllm_server import command

pytestmark = pytest.mark.usefixtures("own_servers")


def test_an_environment_without_vllm_is_an_error_when_a_run_starts(package: Path, tmp_path: Path) -> None:
    def check(**options: Any) -> str:
        source = PolicySource("model")
        policy = SampledPolicy("p", source, "float32", "default", tiny.make_tokenizer(), ENDS, _never, PolicyConfig())
        config = SamplingConfig(engine="vllm", engine_options={"python": sys.executable} | options)
        sampler: Any = make_sampler(policy, config, "bootstrap")
        sampler.check()
        return sampler.identity

    identity = check(env={"PYTHONPATH": str(package)})
    with pytest.raises(ConfigError, match=r"^bootstrap\.engine_options\.python: the environment of .* has no vLLM"):
        check(env={"PYTHONPATH": str(tmp_path)})
    others = [
        check(env={"PYTHONPATH": str(package), "A": "1"}),
        *(check(env={"PYTHONPATH": str(package)}, **{name: 2}) for name in ("max_length", "data_parallel")),
    ]
    assert len({identity, *others}) == 4


def _never() -> Any:
    raise AssertionError("the model is not loaded")


@pytest.fixture
def sampling(package: Path, tmp_path: Path) -> Sampling:
    return Sampling(package, tmp_path)


@pytest.mark.timeout(180)
def test_a_server_serves_one_policy_and_is_replaced_for_the_next(sampling: Sampling, tmp_path: Path) -> None:
    """An adapter that vLLM does not load is merged. Other samplings of the same policy find its server; stored answers
    need none.
    """
    base = tiny.save_model(tmp_path / "base")
    trained = tiny.save_adapter(tmp_path / "trained", base, rank_pattern={"q_proj": 2})
    first = sampling(base, "a")
    assert len(first) == 15
    pid = vllm._KEEPER._server.pid  # pyright: ignore[reportOptionalMemberAccess]
    assert sampling(base, "b").equals(first)
    assert len(sampling.starts) == 1
    assert sampling(trained, "a", "round 2")["ids"] != first["ids"]
    assert sampling.starts[0]["model"] == base.model
    assert len(sampling.starts) == 2
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert sampling(base, "a").equals(first)
    assert len(sampling.starts) == 2, "what is stored needs no server"
    merged = Path(sampling.starts[1]["model"])
    assert merged.is_dir()
    assert merged != tmp_path / "trained"
    vllm._KEEPER.release()
    assert not merged.exists()


@pytest.mark.real
@pytest.mark.timeout(180)
def test_a_server_that_is_killed_is_an_error_and_the_next_command_resumes(
    sampling: Sampling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny.save_model(tmp_path / "base")
    sampling.options["parallel"] = 1
    original, kept = Results.put, list[int]()

    def put(self: Results, values: Any) -> None:
        original(self, values)
        kept.append(1)
        if len(kept) == 2:
            kill_server(vllm._KEEPER._server.pid)  # pyright: ignore[reportOptionalMemberAccess]

    monkeypatch.setattr(Results, "put", put)
    with pytest.raises(ConfigError, match=r"(?s)^bootstrap\.engine_options.*no connection.*vLLM has ended; it says:"):
        sampling(source, "a")
    assert 2 <= len(kept) <= 3
    before = len(kept)
    assert len(sampling(source, "a")) == 15
    assert len(kept) == 5, "the others alone are asked"
    assert len(sampling.starts) == 2
    assert before < 5


@pytest.mark.real
@pytest.mark.timeout(120)
def test_a_server_with_other_weights_is_refused(sampling: Sampling, tmp_path: Path) -> None:
    """As it would be if the folder changed after the server started."""
    source, other = tiny.save_model(tmp_path / "base"), tiny.save_model(tmp_path / "other", seed=1)
    (tmp_path / "base" / "model.safetensors").rename(tmp_path / "kept")
    Path(other.model, "model.safetensors").rename(tmp_path / "base" / "model.safetensors")
    sampling(source, "a")
    (tmp_path / "kept").rename(tmp_path / "base" / "model.safetensors")
    started = vllm._KEEPER._key
    vllm._KEEPER._key = replace(started, weights=weights_digest(source))  # pyright: ignore
    with pytest.raises(ConfigError, match=rf"not serve the weights of round 1 \({source.model}\).* differ by .* nats"):
        sampling(source, "b")


@pytest.mark.real
@pytest.mark.timeout(120)
def test_a_server_that_does_not_start_or_is_not_kept(sampling: Sampling, tmp_path: Path) -> None:
    source = tiny.save_model(tmp_path / "base")
    assert len(sampling(source, "a", keep=False, adapters=False)) == 15
    assert vllm._KEEPER._server is None
    with pytest.raises(
        ConfigError, match=r"(?s)^bootstrap\.engine_options: vLLM ended with status 1 .*No module named"
    ):
        sampling(source, "b", env={"PYTHONPATH": "/nowhere"})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"python is missing"),
        ({"python": "/no/such/python"}, r"python must be the Python of an environment with vLLM, .*/no/such/python"),
        ({"python": sys.executable, "tensor_paralel": 2}, r"tensor_paralel: engine vllm has no such option"),
        ({"python": sys.executable, "gpu_memory": 1.5}, r"gpu_memory must be in \(0, 1\], got 1.5"),
        ({"python": sys.executable, "parallel": 0}, r"parallel must be in"),
        ({"python": sys.executable, "dtype": "int8"}, r"dtype must be one of"),
    ],
)
def test_wrong_options_are_refused_with_their_key(options: Any, says: str) -> None:
    policy = SampledPolicy(
        "p", PolicySource("x"), "float32", "default", tiny.make_tokenizer(), ENDS, tiny.make_model, PolicyConfig()
    )
    with pytest.raises(ConfigError, match=rf"^evaluation\.engine_options\.{says}"):
        make_sampler(policy, SamplingConfig(engine="vllm", engine_options=options), "evaluation")


def test_the_command_has_what_the_options_say() -> None:
    options = VllmConfig(
        "py", tensor_parallel=2, data_parallel=3, gpu_memory=0.5, max_length=99, arguments=["--enforce-eager"]
    )
    words = command("py", options, Path("/model"), Path("/tokens"), "bfloat16", 8000)
    assert words[:3] == ["py", "-m", "vllm.entrypoints.openai.api_server"]
    assert words[-1] == "--enforce-eager"
    assert dict(zip(words[3:-1:2], words[4:-1:2], strict=True)) == {
        "--model": "/model", "--tokenizer": "/tokens", "--served-model-name": "policy", "--host": "127.0.0.1",
        "--port": "8000", "--dtype": "bfloat16", "--generation-config": "vllm", "--tensor-parallel-size": "2",
        "--data-parallel-size": "3", "--gpu-memory-utilization": "0.5", "--max-model-len": "99",
    }  # fmt: skip
    plain = command("py", VllmConfig("py"), Path("/model"), Path("/tokens"), "float32", 8000)
    assert not {"--tensor-parallel-size", "--gpu-memory-utilization", "--max-model-len"} & set(plain)
