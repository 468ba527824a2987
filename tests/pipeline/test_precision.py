"""``auto`` is settled once in a run, recorded, and read back on any machine that resumes the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import small_config

from seralign.config import RunConfig
from seralign.errors import ConfigError
from seralign.pipeline import precision, train
from seralign.pipeline.precision import Precision, settled
from seralign.pipeline.stage import carry_out
from seralign.pipeline.start import started
from seralign.policy.identity import PolicySource
from seralign.policy.speed import Rates
from seralign.runs import Run, open_run
from seralign.runs.figures import PrecisionFigures
from seralign.runs.files import read_table
from seralign.runs.layout import PRECISION

SLOW, FAST = Rates(float32=80.0, bfloat16=1.2), Rates(float32=187.0, bfloat16=419.0)
AUTO: dict[str, Any] = {"training__precision": "auto", "sft__precision": "auto", "scoring__dtype": "auto"}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Rates], None]:
    def is_one(rates: Rates) -> None:
        monkeypatch.setattr(precision, "processor_rates", lambda shape: rates)
        monkeypatch.setattr(precision, "processor_name", lambda: "Processor 7")

    return is_one


def chosen(config: RunConfig) -> list[str]:
    assert config.sft is not None
    return [config.training.precision, config.sft.precision, config.scoring.dtype]


def a_run(tmp_path: Path, **overrides: Any) -> tuple[Run, RunConfig]:
    return open_run(tmp_path / "run", {}, {}), small_config(tmp_path / "run", **overrides)


Saved = Callable[[str], PolicySource]


def settle(run: Run, config: RunConfig, source: PolicySource) -> RunConfig:
    """The configuration as the stage settles it, for a model."""
    given = replace(config, policy=replace(config.policy, model=source.model))
    with started(run, given, None) as start:
        carry_out(run, Precision(), start)
        Precision().tell(start)
    return settled(config, run.figures(PRECISION, PrecisionFigures).precision)


@pytest.mark.parametrize(("rates", "fast"), [(SLOW, "float32"), (FAST, "bfloat16")])
def test_auto_is_the_fast_one_of_the_machine_and_stays_it_elsewhere(
    rates: Rates, fast: str, machine: Callable[[Rates], None], saved: Saved, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run, config = a_run(tmp_path, **AUTO)
    machine(rates)
    assert chosen(settle(run, config, saved("llama"))) == [fast] * 3
    assert run.record(PRECISION).figures == {"precision": fast, "processor": "Processor 7", "gflops": vars(rates)}
    assert "warning" not in capsys.readouterr().err

    machine(SLOW if rates is FAST else FAST)
    assert chosen(settle(run, config, saved("llama"))) == [fast] * 3
    told = " ".join(capsys.readouterr().err.split())
    other = {"float32": "187 GFLOP/s a core against 419 in bfloat16", "bfloat16": "1.2 GFLOP/s a core against 80 in"}
    assert f"warning: the run began with {fast}, which is slow on this processor (Processor 7)" in told
    assert other[fast] in told


def test_a_slow_choice_is_told_with_both_rates(
    machine: Callable[[Rates], None], saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, config = a_run(tmp_path, training__precision="bfloat16", sft__precision="auto", scoring__dtype="float32")
    machine(SLOW)
    assert chosen(settle(run, config, saved("llama"))) == ["bfloat16", "float32", "float32"]
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("warning") == 1
    assert (
        "warning: training.precision: bfloat16, which is slow on this processor (Processor 7): 1.2 GFLOP/s a core "
        "against 80 in float32; set training.precision: auto"
    ) in told


def test_what_is_chosen_stays(tmp_path: Path) -> None:
    config = small_config(tmp_path / "run", training__precision="float32", scoring__dtype="bfloat16", **{
        "sft__precision": "auto"
    })  # fmt: skip
    assert chosen(settled(config, "bfloat16")) == ["float32", "bfloat16", "bfloat16"]


def test_without_sft_nothing_is_settled_for_it(tmp_path: Path) -> None:
    assert settled(small_config(tmp_path / "run", sft=None), "bfloat16").sft is None


def test_float16_on_a_cpu_stays_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^training\.precision: float16 needs a GPU"):
        train(small_config(tmp_path / "run", training__precision="float16"))


def test_a_run_in_bfloat16_starts_each_training_at_margin_0_and_keeps_float32_weights(
    machine: Callable[[Rates], None], tmp_path: Path
) -> None:
    """Policy and reference are the same numbers: to the last bit in the trainer, and in scoring."""
    machine(FAST)
    overrides = {"rounds": 2, "evaluation__baseline": False, "scoring__length_correction": "none"}
    result = train(small_config(tmp_path / "run", **AUTO, **overrides))

    first = result.run.record("round-1/train").figures["heldout_first"]
    assert first["eval_margins"] == 0.0
    assert first["eval_rewards/accuracies"] == 0.5
    assert result.run.record("initial/evaluate").figures["kl"]["mean"] == 0.0
    margins = read_table(result.run.path("round-2/score", "margins.parquet"))["margin"].to_numpy()
    assert np.abs(margins).max() > 0
    from safetensors import safe_open

    with safe_open(result.run.path("round-1/train", "policy", "model.safetensors"), framework="pt") as weights:
        assert {str(weights.get_tensor(name).dtype) for name in weights.keys()} == {"torch.float32"}  # noqa: SIM118
