"""Rounds of SeRA through a real vLLM (``make test-vllm``); skipped where there is none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import text_model
import tiny
from stand_in import policy_of, sampled

from seralign.config import SamplingConfig, load_config
from seralign.pipeline import train
from seralign.report.figures import run_figures
from seralign.runs.files import read_table
from seralign.sampling import vllm

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("SERALIGN_VLLM_PYTHON", ROOT / ".venv-vllm" / "bin" / "python"))

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PYTHON.exists(), reason=f"no vLLM in {PYTHON.parent.parent}: make test-vllm installs it"),
]


# vLLM computes attention on a processor in heads of at least 32 channels.
HEADS: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}


def options_of(log: Path, **more: Any) -> dict[str, Any]:
    """Options of the engine for a small model on a processor, where vLLM fails if it splits a prompt."""
    return {"python": str(PYTHON), "max_length": 1024, "arguments": ["--enforce-eager", "--no-enable-chunked-prefill"],
            "log": str(log), "adapters": True, "keep": True,
            "env": {"VLLM_CPU_KVCACHE_SPACE": "1"}} | more  # fmt: skip


def starts_of(log: Path) -> int:
    """Number of servers that became ready."""
    return log.read_text(errors="replace").count("Application startup complete")


@pytest.mark.parametrize(
    ("sample_from", "lora", "starts"),
    [
        ("initial", None, 1),
        ("policy", None, 2),
        ("policy", {"r": 4, "alpha": 8}, 1),
    ],
)
def test_rounds_are_sampled_by_vllm(
    sample_from: str, lora: dict[str, int] | None, starts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server serves the initial policy in both rounds, and one loads the adapter of each round; a policy of all
    weights has one of its own.

    Before each sampling, the server's log-probabilities were compared with those of the policy to 0.01 nats.
    """
    model, log = tmp_path / "model", tmp_path / "vllm.log"
    text_model.save_text_model(model, text_model.CHAT_TEMPLATE)
    tokenizer = {file: (model / file).read_bytes() for file in ("tokenizer.json", "tokenizer_config.json")}
    tiny.save_model(model, vocab_size=259, max_position_embeddings=1024, **HEADS)
    for file, content in tokenizer.items():
        (model / file).write_bytes(content)
    values: dict[str, Any] = {
        "out": str(tmp_path / "run"), "rounds": 3, "policy.model": str(model), "policy.dtype": "float32",
        "policy.lora": lora,
        "data.pairs.path": "examples/own_data/pairs.jsonl", "data.heldout_fraction": 0.2, "data.max_length": 900,
        "training": {"learning_rate": 3e-3, "batch_size": 4, "precision": "float32"},
        "scoring.dtype": "float32", "evaluation.prompts": 0, "stop.metric": "never",
        "bootstrap": {"samples": 6, "max_new_tokens": 16, "sample_from": sample_from, "engine": "vllm",
                      "engine_options": options_of(log)},
    }  # fmt: skip
    monkeypatch.chdir(ROOT)
    try:
        run = train(load_config(None, values)).run
    finally:
        vllm._KEEPER.release()
    later = run_figures(run).rounds[1:]
    assert [one.sample.sampled_from for one in later] == (  # pyright: ignore
        ["initial", "initial"] if sample_from == "initial" else ["round 1", "round 2"]
    )
    for one in later:
        assert one.sample is not None
        assert one.sample.dropped == 0, "token ids go there and back"
        assert one.sample.responses == 6 * one.sample.prompts > 0
        table = read_table(tmp_path / "run" / f"round-{one.index}" / "sample" / "candidates.parquet")
        ids = table["ids"].to_pylist()
        assert all(0 < len(each) <= 16 and max(each) < 259 for each in ids)
        assert len({tuple(each) for each in ids}) > len(ids) / 2
    assert starts_of(log) == starts


def test_adapters_of_two_rounds_are_sampled_through_one_server(tmp_path: Path) -> None:
    """Greedy responses are those of the same adapter in this process."""
    log = tmp_path / "vllm.log"
    base = tiny.save_model(tmp_path / "base", **HEADS)
    rounds = [tiny.save_adapter(tmp_path / f"adapter-{seed}", base, seed=seed) for seed in (0, 1)]
    served = SamplingConfig(0.0, engine="vllm", engine_options=options_of(log, max_length=64), max_new_tokens=24)
    pids, responses = list[int](), list[Any]()
    try:
        for number, source in enumerate(rounds, start=1):
            before = rounds[0] if number == 2 else base
            policy = policy_of(source, f"round {number}", before)
            found = sampled(policy, served, tmp_path / f"{number}.sqlite", 1)
            pids.append(vllm._KEEPER._server.pid)  # pyright: ignore[reportOptionalMemberAccess]
            local = SamplingConfig(0.0, max_new_tokens=24)
            assert found.equals(sampled(policy, local, tmp_path / f"{number}-local.sqlite", 1))
            responses.append(found["ids"])
    finally:
        vllm._KEEPER.release()
    assert pids[0] == pids[1]
    assert starts_of(log) == 1
    assert responses[0] != responses[1]
    assert log.read_text(errors="replace").count("Loaded new LoRA adapter") == 2
