"""Settings that reach transformers, settings that may not, and errors of one line for what cannot be honoured."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_helpers import metrics, policy_model, random_pairs, run_training, training_data
from transformers import TrainingArguments

from seralign.config import PolicyConfig, TrainingConfig
from seralign.errors import ConfigError
from seralign.objectives import DPO, one
from seralign.policy.identity import PolicySource
from seralign.policy.load import load_model
from seralign.training.arguments import check_rates, check_settings, training_arguments
from seralign.training.plan import Plan

PLAN = Plan([], steps=7, accumulation=3, world_size=1)
LOSS = one("dpo", DPO(0.1))


def arguments(heldout: bool = False, **settings: Any) -> TrainingArguments:
    config = TrainingConfig(**settings)
    return training_arguments(config, PLAN, Path("scratch"), section="training", heldout=heldout, seed=5)


def test_settings_in_transformers_words():
    found = arguments(
        learning_rate=3e-4, schedule="cosine", warmup=0.2, weight_decay=0.1, max_grad_norm=0.5, precision="bfloat16",
        optimizer="sgd", save_steps=11, log_steps=13, eval_steps=17, heldout=True,
    )  # fmt: skip

    assert (found.max_steps, found.gradient_accumulation_steps, found.per_device_train_batch_size) == (7, 3, 1)
    assert (found.learning_rate, found.lr_scheduler_type, found.weight_decay, found.optim) == (
        3e-4,
        "cosine",
        0.1,
        "sgd",
    )
    assert found.get_warmup_steps(7) == 1
    assert (found.max_grad_norm, found.bf16, found.fp16, found.seed) == (0.5, True, False, 5)
    assert (found.save_steps, found.logging_steps, found.eval_steps) == (11, 13, 17)
    assert found.eval_on_start
    assert not found.activation_checkpointing
    assert not arguments(eval_steps=17).eval_on_start
    assert arguments(eval_steps=17).eval_strategy == "no"
    assert arguments(gradient_checkpointing=True).activation_checkpointing


def test_an_extra_setting_reaches_the_optimizer(tiny_model: Callable[[str], Path], tmp_path: Path):
    found = []
    for beta in (0.9, 0.5):
        config = TrainingConfig(max_steps=3, batch_size=4, learning_rate=1e-2, extra={"adam_beta1": beta})
        policy = policy_model(tiny_model("llama"))
        data = training_data(tiny_model("llama"), random_pairs(8), LOSS, config)
        run_training(policy, tmp_path / str(beta), data, LOSS, config)
        found.append(torch.cat([value.detach().flatten() for value in policy.parameters()]))

    assert arguments(extra={"adam_beta2": 0.5, "dataloader_num_workers": 2}).adam_beta2 == 0.5
    assert not torch.equal(*found)


@pytest.mark.parametrize(
    "key",
    [
        "max_steps",
        "seed",
        "per_device_train_batch_size",
        "gradient_checkpointing",
        "activation_checkpointing",
        "label_smoothing_factor",
        "save_only_model",
        "warmup_ratio",
        "ddp_backend",
        "ddp_timeout",
        "bf16_full_eval",
    ],
)
def test_a_setting_that_is_ours_is_refused_by_name(key: str):
    with pytest.raises(ConfigError, match=rf"^training\.extra\.{key}: seralign sets this itself"):
        arguments(extra={key: 1})


@pytest.mark.parametrize("key", ["tf32", "use_liger_kernel", "torch_compile", "torch_compile_mode"])
def test_a_setting_that_moves_the_policy_from_its_reference_is_refused_with_the_reason(key: str):
    with pytest.raises(ConfigError, match=rf"^training\.extra\.{key}: it changes how the policy is computed, after"):
        arguments(extra={key: True})


def test_an_unknown_setting_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"^training\.extra\.adam_gamma: transformers\.TrainingArguments has no such"):
        arguments(extra={"adam_gamma": 1})


def test_every_refused_setting_exists_or_did():
    """A typing error in our own list would refuse nothing."""
    from seralign.training.extra import OTHER_NUMBERS, REFUSED

    gone = {"group_by_length", "warmup_ratio"}  # transformers 5 dropped the first, 5.x the second may
    assert {field.name for field in dataclasses.fields(TrainingArguments)} | gone >= REFUSED | OTHER_NUMBERS


@pytest.mark.parametrize("section", ["training", "sft"])
@pytest.mark.parametrize(
    ("settings", "key", "why"),
    [
        ({"schedule": "staircase"}, "schedule", "staircase"),
        ({"optimizer": "adamx"}, "optimizer", "adamx"),
        ({"extra": {"optim_args": "learning_rate"}}, "extra.optim_args", "unpack"),
        ({"extra": {"adam_beta2": 2.0, "adam_beta1": 0.5}}, "extra.adam_beta2", "Invalid beta parameter at index 1"),
        ({"extra": {"adam_epsilon": -1}}, "extra.adam_epsilon", "Invalid epsilon"),
        ({"extra": {"dataloader_prefetch_factor": 2, "run_name": "a"}}, "extra.dataloader_prefetch_factor", "workers"),
        ({"optimizer": "adafactor", "extra": {"optim_args": "beta1=x,=,"}}, "extra.optim_args", "unpack"),
    ],
)
def test_a_value_that_transformers_or_torch_refuses_is_one_line_with_its_key(
    settings: dict[str, Any], key: str, why: str, section: str
):
    with pytest.raises(ConfigError) as caught:
        check_settings(TrainingConfig(**settings), section)
    assert str(caught.value).startswith(f"{section}.{key}: transformers refuses it: ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("section", ["training", "sft"])
@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"adam_beta2": "x"}, "adam_beta2 must be a number, got 'x'"),
        ({"adam_beta2": None}, "adam_beta2 must be a number, got null"),
        ({"adam_beta1": [0.9]}, "adam_beta1 must be a number, got [0.9]"),
        ({"adam_beta1": True}, "adam_beta1 must be a number, got true"),
        ({"adam_epsilon": "1e-8"}, "adam_epsilon must be a number, got '1e-8'"),
        ({"dataloader_num_workers": 1.5}, "dataloader_num_workers must be a whole number, got 1.5"),
        ({"logging_first_step": "yes"}, "logging_first_step must be true or false, got 'yes'"),
        ({"optim_args": 3}, "optim_args must be text or null, got 3"),
        ({"lr_scheduler_kwargs": [1]}, "lr_scheduler_kwargs must be keys and values or text or null, got [1]"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_key(extra: dict[str, Any], says: str, section: str):
    with pytest.raises(ConfigError) as caught:
        check_settings(TrainingConfig(extra=extra), section)
    assert str(caught.value) == f"{section}.extra.{says}"


def test_the_defaults_of_transformers_are_of_the_types_that_are_asked_for():
    """Every field that may be given, with the value that it has anyway."""
    from seralign.training.extra import OTHER_NUMBERS, REFUSED, SHARDING, check_extra

    given = {
        field.name: value
        for field in dataclasses.fields(TrainingArguments)
        if field.name not in REFUSED | OTHER_NUMBERS | SHARDING
        and isinstance(value := field.default, str | int | float | None)
    }
    assert len(given) > 60
    check_extra(given, (), "training")


def test_float16_on_a_cpu_is_refused():
    with pytest.raises(ConfigError, match=r"^training\.precision: float16 needs a GPU; on a CPU, set bfloat16"):
        arguments(precision="float16")


def test_float16_weights_are_refused(tiny_model: Callable[[str], Path], tmp_path: Path):
    config = TrainingConfig(max_steps=1)
    model = load_model(PolicySource(str(tiny_model("llama"))), PolicyConfig(), "float16", trainable=True)
    data = training_data(tiny_model("llama"), random_pairs(4), LOSS, config)

    with pytest.raises(ConfigError, match=r"^policy\.dtype: float16 weights cannot be trained"):
        run_training(model, tmp_path, data, LOSS, config)


@pytest.mark.parametrize("section", ["training", "sft"])
@pytest.mark.parametrize("tracker", ["nosuch", "wandb"])
def test_a_tracker_that_is_unknown_or_missing_is_refused_by_its_key(
    tracker: str, section: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)

    match = rf"^{section}\.report_to: {tracker} cannot be used: .*{tracker}"
    with pytest.raises(ConfigError, match=match) as caught:
        check_settings(TrainingConfig(report_to=["tensorboard", tracker]), section)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:The NeptuneCallback is deprecated:FutureWarning")
@pytest.mark.parametrize("tracker", ["mlflow", "neptune", "dagshub"])
def test_a_missing_tracker_leaves_no_traceback(tracker: str, capfd: pytest.CaptureFixture[str]):
    """Their ``__del__`` fails on what a failed ``__init__`` left."""
    with pytest.raises(ConfigError, match=rf"^training\.report_to: {tracker} cannot be used"):
        check_settings(TrainingConfig(report_to=[tracker]), "training")
    assert "Traceback" not in capfd.readouterr().err


class Stub:
    """A package as far as the check of a login asks it."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


WANDB: dict[str, Any] = {"mode": "online", "api_key": None, "base_url": "https://api.wandb.ai"}


@pytest.mark.parametrize(
    ("settings", "netrc", "is_taken"),
    [
        ({}, "", False),
        ({}, "machine other.example login user password w", False),
        ({}, "machine api.wandb.ai login user password w", True),
        ({}, "no netrc at all {", False),
        ({"api_key": "w"}, "", True),
        ({"identity_token_file": "file"}, "", True),
        ({"mode": "offline"}, "", True),
        ({"mode": "disabled"}, "", True),
        ({"base_url": "https://own.example:8080"}, "machine own.example login user password w", True),
    ],
)
def test_wandb_without_a_login_is_told_at_the_start(
    settings: dict[str, Any], netrc: str, is_taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "logins").write_text(netrc)
    monkeypatch.setenv("NETRC", str(tmp_path / "logins"))
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: True)
    found = Stub(**WANDB | settings)
    monkeypatch.setitem(sys.modules, "wandb", Stub(setup=lambda: Stub(settings=found)))  # pyright: ignore
    config = TrainingConfig(report_to=["wandb"])
    if is_taken:
        check_settings(config, "training")
        return
    match = r"^training\.report_to: wandb cannot be used: not logged in; .*WANDB_API_KEY.*WANDB_MODE=offline$"
    with pytest.raises(ConfigError, match=match):
        check_settings(config, "training")


@pytest.mark.parametrize(
    ("environment", "key", "is_taken"),
    [
        ({}, None, False),
        ({}, "key", True),
        ({"COMET_START_ONLINE": "0"}, None, True),
        ({"COMET_START_ONLINE": "1"}, None, False),
        ({"COMET_MODE": "disabled"}, None, True),
    ],
)
def test_comet_without_a_key_is_told_at_the_start(
    environment: dict[str, str], key: str | None, is_taken: bool, monkeypatch: pytest.MonkeyPatch
):
    from seralign.training.trackers import check_trackers

    for name in ("COMET_START_ONLINE", "COMET_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("seralign.training.trackers.get_reporting_integration_callbacks", lambda names: [])
    asked: list[str] = []
    monkeypatch.setitem(sys.modules, "comet_ml", Stub(get_config=lambda name: (asked.append(name), key)[1]))  # pyright: ignore
    if is_taken:
        check_trackers(["comet_ml"], "sft")
        assert asked == ["comet.api_key"] * (key is not None)
        return
    with pytest.raises(
        ConfigError, match=r"^sft\.report_to: comet_ml cannot be used: there is no API key; .*COMET_API"
    ):
        check_trackers(["comet_ml"], "sft")


@pytest.mark.parametrize("names", [[], ["none"], ["all"], ["tensorboard"]])
def test_trackers_that_are_here_are_taken(names: list[str]):
    check_settings(TrainingConfig(report_to=names), "training")


@pytest.mark.parametrize(
    ("warmup", "steps", "expected"),
    [(0.1, 1, 0), (0.1, 2, 0), (0.1, 9, 0), (0.1, 10, 1), (0.1, 19, 1), (0.5, 1, 0), (0.99, 2, 1), (0.0, 100, 0)],
)
def test_warm_up_is_rounded_down(warmup: float, steps: int, expected: int):
    plan = Plan([], steps=steps, accumulation=1, world_size=1)
    config = TrainingConfig(warmup=warmup)
    found = training_arguments(config, plan, Path("scratch"), section="training", heldout=False, seed=0)
    assert found.get_warmup_steps(steps) == expected


@given(warmup=st.floats(0, 1, exclude_max=True), steps=st.integers(1, 60))
def test_no_warm_up_takes_a_whole_training(warmup: float, steps: int):
    check_rates(TrainingConfig(warmup=warmup), steps, "training")


def test_one_step_trains(tiny_model: Callable[[str], Path], tmp_path: Path):
    config = TrainingConfig(max_steps=1, batch_size=4, learning_rate=0.01, log_steps=1)
    model = policy_model(tiny_model("llama"))
    before = torch.cat([value.detach().flatten().clone() for value in model.parameters()])
    run_training(model, tmp_path, training_data(tiny_model("llama"), random_pairs(4), LOSS, config), LOSS, config)

    assert metrics(tmp_path)[0]["learning_rate"] == 0.01
    moved = torch.cat([value.detach().flatten() for value in model.parameters()]) - before
    assert moved.abs().max().item() == pytest.approx(0.01, rel=1e-3)  # AdamW's first step is the learning rate


@pytest.mark.filterwarnings("ignore:Both num_training_steps and num_stable_steps:UserWarning")
@pytest.mark.parametrize("section", ["training", "sft"])
def test_a_training_whose_every_rate_is_0_is_refused(section: str):
    """A decay of no steps after no stable ones: what follows the warm-up has the smallest rate, which is 0."""
    never = {"lr_scheduler_kwargs": {"num_decay_steps": 0, "num_stable_steps": 0}}
    config = TrainingConfig(schedule="warmup_stable_decay", warmup=0.7, extra=never)
    check_rates(config, 3, section)  # two steps of warm-up, the second of which has half the rate

    with pytest.raises(ConfigError, match=rf"^{section}\.schedule: all 2 steps have a learning rate of 0 .*{section}"):
        check_rates(config, 2, section)
    with pytest.raises(ConfigError, match=rf"^{section}\.schedule: the only step has a learning rate of 0"):
        check_rates(config, 1, section)


def test_keywords_that_a_schedule_lacks_are_told_at_the_start():
    config = TrainingConfig(schedule="cosine", extra={"lr_scheduler_kwargs": {"cycles": 2}})
    with pytest.raises(ConfigError, match=r"^training\.schedule: transformers refuses it: .*cycles"):
        check_settings(config, "training")


@pytest.mark.parametrize(
    "extra",
    [
        {"hub_token": None},
        {"include_num_input_tokens_seen": True},
        {"run_name": "desk-of-tokens hf_short"},
        {"run_name": "keyboard", "optim_args": "skip=1"},
    ],
)
def test_what_is_no_secret_is_taken(extra: dict[str, Any]):
    assert TrainingConfig(extra=extra).extra == extra


def test_tensorboard_writes_each_training_to_its_own_folder(tiny_model: Callable[[str], Path], tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = TrainingConfig(max_steps=2, batch_size=4, log_steps=1, report_to=["tensorboard"])
    data = training_data(tiny_model("llama"), random_pairs(8), LOSS, config, heldout=random_pairs(4, seed=1))
    for name in ("one", "two"):
        run_training(policy_model(tiny_model("llama")), tmp_path / name, data, LOSS, config)

    for name in ("one", "two"):
        events = EventAccumulator(str(tmp_path / name / "logs"))
        events.Reload()
        assert [event.step for event in events.Scalars("train/rewards/accuracies")] == [1, 2]
        assert [event.step for event in events.Scalars("eval/loss")] == [0, 2]
    assert "TENSORBOARD_LOGGING_DIR" not in os.environ


def test_training_writes_nothing_on_the_users_terminal_but_its_bar(
    tiny_model: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    config = TrainingConfig(max_steps=4, batch_size=4, save_steps=2, log_steps=1)
    data = training_data(tiny_model("llama"), random_pairs(8), LOSS, config, heldout=random_pairs(4, seed=1))
    capfd.readouterr()
    run_training(policy_model(tiny_model("llama")), tmp_path, data, LOSS, config)

    output = capfd.readouterr()
    assert output.out == ""
    assert [line for line in output.err.splitlines() if line.strip() and not line.startswith("test")] == []
