"""Trainings that cannot be as they were asked for are refused before anything is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_run import small_config

import seralign
from seralign.errors import ConfigError


@pytest.mark.parametrize("section", ["training", "sft"])
def test_a_tracker_is_refused_before_the_run_has_a_folder(section: str, tmp_path: Path):
    run = small_config(tmp_path / "run", **{f"{section}__report_to": ["nosuch"]})

    with pytest.raises(ConfigError, match=rf"^{section}\.report_to: nosuch cannot be used"):
        seralign.train(run)
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:Both num_training_steps and num_stable_steps:UserWarning")
def test_a_training_that_cannot_move_ends_a_run_before_a_model_runs(tmp_path: Path):
    never = {"lr_scheduler_kwargs": {"num_decay_steps": 0, "num_stable_steps": 0}}
    run = small_config(
        tmp_path / "run", training__schedule="warmup_stable_decay", training__warmup=0.0, training__extra=never
    )

    with pytest.raises(ConfigError, match=r"^training\.schedule: all 4 steps have a learning rate of 0"):
        seralign.train(run)
    assert not list((tmp_path / "run").glob("sft*"))


@pytest.mark.parametrize(
    "extra",
    [
        {"hub_token": "anything"},
        {"run_name": "hf_" + "aBcDeFgHiJkLmNoPqRsT"},
        {"lr_scheduler_kwargs": {"api_key": "12345"}},
        {"lr_scheduler_kwargs": {"names": ["a", "sk-" + "proj-0123456789abcdef"]}},
        {"logging_dir": "https://user:word@host/x"},
        {"run_name": "0123456789abcdef" * 2 + "01234567"},
        {"MY_PASSWORD": "x"},
        {"optim_args": "secret_value=1, github_pat_" + "a" * 30},
    ],
)
@pytest.mark.parametrize("section", ["training", "sft"])
def test_a_secret_is_refused_and_not_repeated(section: str, extra: dict[str, Any], tmp_path: Path):
    with pytest.raises(ConfigError, match=rf"^{section}\.extra\.[\w.\[\]]+: .*belongs in the environment") as caught:
        small_config(tmp_path / "run", **{f"{section}__extra": extra})
    for value in ("anything", "hf_", "12345", "sk-", "word@", "abcdef01", "github_pat"):
        assert value not in str(caught.value).replace("HF_TOKEN", "")
