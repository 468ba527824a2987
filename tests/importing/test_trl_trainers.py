"""TRL's CPO, ORPO and KTO: fields and defaults of the installed TRL, losses, and how a trainer is recognised."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from seralign.config import load_config
from seralign.config.objective import plain
from seralign.errors import ConfigError
from seralign.importing import TOOLS, Options, import_config

pytestmark = pytest.mark.filterwarnings("ignore")

LEAST = {"model_name_or_path": "m", "dataset_name": "d"}


def config_class(tool: str) -> type:
    if tool == "trl-cpo":
        from trl.experimental.cpo import CPOConfig as Config
    elif tool == "trl-orpo":
        from trl.experimental.orpo import ORPOConfig as Config
    elif tool == "trl-kto":
        from trl.trainer.kto_config import KTOConfig as Config
    else:
        from trl.trainer.dpo_config import DPOConfig as Config
    return Config


def default(field: Any) -> Any:
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def settings(tool: str, values: dict[str, Any]) -> dict[str, Any]:
    return {one.key: one.value for one in TOOLS[tool].translate(LEAST | values, Options()).settings}


def objective(folder: Path, tool: str | None, **values: Any) -> Any:
    file = folder / "theirs.yaml"
    file.write_text(yaml.safe_dump(LEAST | values))
    imported = import_config(file, tool)
    return plain(load_config(None, {one.key: one.value for one in imported.settings}).objective)


@pytest.mark.parametrize("tool", ["trl-cpo", "trl-orpo", "trl-kto"])
def test_every_field_has_an_outcome(tool: str) -> None:
    from trl.scripts.utils import ScriptArguments
    from trl.trainer.model_config import ModelConfig

    number = 0
    for field in (
        one for kind in (ScriptArguments, ModelConfig, config_class(tool)) for one in dataclasses.fields(kind)
    ):
        for value in (None, default(field), True, 1, "bfloat16"):
            values = LEAST | {field.name: value}
            try:
                imported = TOOLS[tool].translate(values, Options())
            except ConfigError as error:
                assert str(error).startswith(field.name)  # noqa: PT017
                assert "not a known key" not in str(error)  # noqa: PT017
                continue
            assert [outcome.key for outcome in imported.outcomes] == list(values)
            number += 1
    assert number > 400


@pytest.mark.parametrize("tool", ["trl", "trl-cpo", "trl-orpo", "trl-kto"])
def test_the_defaults_are_those_of_the_installed_trl(tool: str) -> None:
    """A file without a key and a file that has the default of the dataclass mean the same."""
    fields = {field.name: default(field) for field in dataclasses.fields(config_class(tool))}
    read = ["beta", "learning_rate", "lr_scheduler_type", "num_train_epochs", "per_device_train_batch_size", "seed",
            "gradient_accumulation_steps", "max_length", "weight_decay", "max_grad_norm", "logging_steps", "optim",
            "gradient_checkpointing", "warmup_steps", "bf16", "fp16", "disable_dropout", "max_steps", "eval_strategy",
            "loss_type", "label_smoothing", "cpo_alpha", "simpo_gamma", "alpha", "desirable_weight",
            "undesirable_weight", "sync_ref_model", "ref_model_sync_steps", "ref_model_mixup_alpha"]  # fmt: skip
    given = {name: fields[name] for name in read if fields.get(name) is not None}
    given = {name: getattr(value, "value", value) for name, value in given.items()}
    assert len(given) > 15
    assert settings(tool, given) == settings(tool, {})


@pytest.mark.parametrize(
    ("tool", "values", "expected"),
    [
        ("trl-orpo", {"beta": 0.2}, {"name": "orpo", "odds_weight": 0.2}),
        ("trl-kto", {"beta": 0.3, "desirable_weight": 1.5},
         {"name": "kto", "beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 1.0}),
        (None, {"undesirable_weight": 2.0}, {"name": "kto", "undesirable_weight": 2.0}),
        (None, {"loss_type": "kto"}, {"name": "kto", "beta": 0.1}),
        (None, {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0, "simpo_gamma": 1.0},
         {"name": "simpo", "beta": 2.0, "target_margin": 1.0}),
        (None, {"loss_type": "alphapo", "alpha": 0.25, "cpo_alpha": 3.0},
         {"name": "alpha_po", "beta": 0.1, "target_margin": 0.5, "alpha": 0.25}),
        (None, {"loss_type": "alphapo"}, {"name": "simpo", "target_margin": 0.5}),
        (None, {"cpo_alpha": 0.0}, {"name": "cpo", "beta": 0.1, "nll_weight": 0.0}),
    ],
)  # fmt: skip
def test_objective(tmp_path: Path, tool: str | None, values: dict[str, Any], expected: dict[str, Any]) -> None:
    found = objective(tmp_path, tool, **values)
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"loss_type": "sigmoid", "cpo_alpha": 0.5}, [("cpo", 1.0), ("sft", 0.5)]),
        ({"loss_type": "simpo"}, [("simpo", 1.0), ("sft", 1.0)]),
        ({"loss_type": "hinge", "beta": 0.25, "cpo_alpha": 2.0}, [("slic_hf", 0.25), ("sft", 2.0)]),
    ],
)
def test_the_supervised_term_of_cpo(tmp_path: Path, values: dict[str, Any], expected: list[tuple[str, float]]) -> None:
    found = objective(tmp_path, "trl-cpo", **values)
    assert [(term["name"], term["weight"]) for term in found] == expected
    assert found[0].get("nll_weight", 0.0) == 0.0


@pytest.mark.parametrize("loss", ["sigmoid", "hinge", "simpo", "alphapo"])
def test_the_contrast_of_cpo_has_the_value_of_trl(loss: str) -> None:
    """Against ``CPOTrainer.cpo_loss`` of the installed TRL, on what its ``loss_type`` reads: sums, or means."""
    from trl.experimental.cpo import CPOTrainer

    chosen, rejected, beta, gamma = -2.0, -3.5, 0.4, 0.5
    alpha = 0.25 if loss == "alphapo" else 0.0
    trainer = SimpleNamespace(
        alpha=alpha, beta=beta, simpo_gamma=gamma, label_smoothing=0.0, accelerator=SimpleNamespace(device="cpu"),
        loss_type="simpo" if loss == "alphapo" else loss,
    )  # fmt: skip
    theirs, *_ = CPOTrainer.cpo_loss(trainer, torch.tensor([chosen]), torch.tensor([rejected]))  # pyright: ignore
    found = settings("trl-cpo", {"loss_type": loss, "beta": beta, "alpha": alpha, "cpo_alpha": 0.0})
    margin = chosen - rejected
    softplus = lambda x: math.log1p(math.exp(-x))  # noqa: E731
    if loss == "hinge":
        target, weight = found["objective.target_margin"], found["objective.weight"]
        ours = weight * max(0.0, target - margin)
    elif loss == "sigmoid":
        ours = softplus(found["objective.beta"] * margin)
    else:
        power = found.get("objective.alpha")
        reward = lambda mean: mean if power is None else (1 - math.exp(mean) ** -power) / power  # noqa: E731
        margin = reward(chosen) - reward(rejected)
        ours = softplus(found["objective.beta"] * margin - found["objective.target_margin"])
    assert theirs.item() == pytest.approx(ours, rel=1e-6)


@pytest.mark.parametrize(
    ("tool", "values", "said"),
    [
        ("trl-cpo", {"loss_type": "ipo"}, "loss_type: there is no objective for 'ipo' without a reference"),
        ("trl-cpo", {"alpha": 0.5}, "alpha: there is no objective for it with loss_type: sigmoid"),
        ("trl-cpo", {"loss_type": "hinge", "beta": 0.0}, "beta must be above 0, got 0.0"),
        ("trl-cpo", {"loss_type": ["simpo"]}, "loss_type must be text, got "),
        ("trl-cpo", {"sync_ref_model": True}, "sync_ref_model: not a known key of TRL CPO"),
        ("trl-orpo", {"loss_type": "sigmoid"}, "loss_type: not a known key of TRL ORPO"),
        ("trl-orpo", {"precompute_ref_log_probs": True}, "precompute_ref_log_probs: not a known key of TRL ORPO"),
        ("trl-kto", {"loss_type": "apo_zero_unpaired"}, "loss_type: there is no objective for 'apo_zero_unpaired'"),
        ("trl-kto", {"desirable_weight": "much"}, "desirable_weight must be a number, got 'much'"),
        (None, {"cpo_alpha": 1.0, "desirable_weight": 1.0},
         "it has keys of several trainers; say which one with --from trl-cpo or trl-kto"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated_is_named(
    tmp_path: Path, tool: str | None, values: dict[str, Any], said: str
) -> None:
    file = tmp_path / "theirs.yaml"
    file.write_text(yaml.safe_dump(LEAST | values))
    with pytest.raises(ConfigError) as error:
        import_config(file, tool)
    assert str(error.value).startswith(f"{file}: {said}")


def test_what_is_not_carried_is_told(tmp_path: Path) -> None:
    file = tmp_path / "theirs.yaml"
    file.write_text(yaml.safe_dump(LEAST | {"label_smoothing": 0.1, "simpo_gamma": 0.5, "cpo_alpha": 1.0}))
    outcomes = {one.key: (one.fate, one.text) for one in import_config(file).outcomes}
    assert outcomes["label_smoothing"][0] == "left out"
    assert "objective.soft_labels: conservative" in outcomes["label_smoothing"][1]
    assert outcomes["simpo_gamma"] == ("no effect", "read only with loss_type: simpo or alphapo")
    assert outcomes["cpo_alpha"][0] == "changed"
    file.write_text(yaml.safe_dump(LEAST | {"beta": 0.5, "loss_type": "hinge", "cpo_alpha": 0.0}))
    found = {one.key: (one.fate, one.ours) for one in import_config(file, "trl-cpo").outcomes}
    assert found["beta"] == ("changed", ("objective.weight", "objective.target_margin"))
    assert found["cpo_alpha"] == ("no effect", ())
    file.write_text(yaml.safe_dump(LEAST | {"beta": 0.1}))
    (beta,) = [one for one in import_config(file, "trl-orpo").outcomes if one.key == "beta"]
    assert beta.fate == "changed"
    assert "in TRL it is of prompt and response" in beta.text


def test_without_a_key_of_another_trainer_it_is_dpo(tmp_path: Path) -> None:
    assert objective(tmp_path, None, beta=0.1)["name"] == "dpo"


def test_kto_also_takes_pairs_as_labels(tmp_path: Path) -> None:
    assert settings("trl-kto", {})["data.convert.pair"] == "labels"
