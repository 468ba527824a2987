"""Every key has one outcome; unknown keys, broken files and wrong values are errors that name the key."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seralign.config import load_config
from seralign.config.objective import plain
from seralign.errors import ConfigError
from seralign.importing import TOOLS, Imported, Options, axolotl, import_config, llamafactory, to_text, trl
from seralign.importing.axolotl_keys import IDLE as AXOLOTL_IDLE
from seralign.importing.axolotl_keys import LEFT as AXOLOTL_LEFT
from seralign.importing.llamafactory_keys import IDLE as FACTORY_IDLE
from seralign.importing.llamafactory_keys import LEFT as FACTORY_LEFT
from seralign.importing.trl_keys import IDLE as TRL_IDLE
from seralign.importing.trl_keys import LEFT as TRL_LEFT

LEAST: dict[str, dict[str, Any]] = {
    "trl": {"model_name_or_path": "m", "dataset_name": "d"},
    "trl-cpo": {"model_name_or_path": "m", "dataset_name": "d"},
    "trl-orpo": {"model_name_or_path": "m", "dataset_name": "d"},
    "trl-kto": {"model_name_or_path": "m", "dataset_name": "d"},
    "axolotl": {"base_model": "m", "rl": "dpo", "datasets": [{"path": "p.jsonl"}], "learning_rate": 1e-5},
    "llamafactory": {"model_name_or_path": "m", "stage": "dpo", "dataset": "d", "template": "qwen"},
}


def translated(tool: str, values: dict[str, Any], options: Options) -> Imported | str:
    """The translation, or the message of the error."""
    try:
        return TOOLS[tool].translate(values, options)
    except ConfigError as error:
        return str(error)


def write(folder: Path, values: dict[str, Any] | str) -> Path:
    file = folder / "theirs.yaml"
    file.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
    return file


def objective(tool: str, values: dict[str, Any], folder: Path) -> Any:
    imported = import_config(write(folder, LEAST[tool] | values), tool)
    return plain(load_config(None, {one.key: one.value for one in imported.settings}).objective)


def outcomes(imported: Imported) -> dict[str, str]:
    return {outcome.key: outcome.fate for outcome in imported.outcomes}


@pytest.mark.filterwarnings("ignore")
def test_every_field_of_trl_has_an_outcome() -> None:
    """All fields of TRL 1.16, each with its default and with a value that is on."""
    from trl.scripts.utils import ScriptArguments
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.model_config import ModelConfig

    number = 0
    for field in (one for kind in (ScriptArguments, ModelConfig, DPOConfig) for one in dataclasses.fields(kind)):
        for value in (None, field.default, True, 1, "bfloat16", ["sigmoid"]):
            if value is dataclasses.MISSING:
                continue
            values = LEAST["trl"] | {field.name: value}
            imported = translated("trl", values, Options())
            if isinstance(imported, str):
                assert imported.startswith((field.name, "loss_weights", "label_smoothing")), f"{field.name}: {imported}"
                assert "not a known key" not in imported
                continue
            assert list(outcomes(imported)) == list(values)
            number += 1
    assert number > 400


KNOWN = {
    "trl": [*TRL_LEFT, *TRL_IDLE, "beta", "loss_type", "max_length", "ld_alpha", "eval_strategy", "eval_steps",
            "use_peft", "lora_r", "bf16", "fp16", "warmup_steps", "warmup_ratio", "save_strategy", "report_to"],
    "trl-cpo": ["bf16", "cpo_alpha", "simpo_gamma", "alpha", "loss_type", "label_smoothing", "beta", "max_length",
                "eval_strategy", "use_peft", "is_encoder_decoder", "generate_during_eval", "max_completion_length"],
    "trl-orpo": ["beta", "max_length", "padding_value", "eval_strategy", "use_peft", "warmup_steps", "save_strategy"],
    "trl-kto": ["desirable_weight", "undesirable_weight", "loss_type", "beta", "max_length", "sync_ref_model",
                "ref_model_sync_steps", "precompute_ref_log_probs", "train_sampling_strategy", "eval_strategy"],
    "axolotl": [*AXOLOTL_LEFT, *AXOLOTL_IDLE, "adapter", "rl_beta", "simpo_gamma", "cpo_alpha", "val_set_size",
                "kto_desirable_weight", "rl",
                "batch_size", "micro_batch_size", "evals_per_epoch", "sequence_len", "rpo_alpha", "trl", "float16"],
    "llamafactory": [*FACTORY_LEFT, *FACTORY_IDLE, "stage", "kto_chosen_weight", "finetuning_type",
                     "pref_loss", "pref_ftx", "pref_bco_weight",
                     "ld_alpha", "val_size", "lora_rank", "lora_target", "ref_model", "eval_dataset", "max_samples"],
}  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 600), st.floats(0, 3, allow_nan=False), st.just({}), st.just([]),
    st.sampled_from([
        "", "kto", "simpo", "no", "none", "steps", "epoch", "sigmoid", "orpo", "lora", "full", "auto", "a/b",
    ]),
    st.lists(st.sampled_from(["wandb", "q_proj", "sigmoid"]), max_size=2),
)  # fmt: skip


@pytest.mark.parametrize("tool", list(TOOLS))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_each_key_has_exactly_one_outcome(tool: str, data: st.DataObject) -> None:
    """Whatever the values are, a translation names every key once, or is refused with the name of a key of the file."""
    keys = data.draw(st.lists(st.sampled_from(KNOWN[tool]), max_size=8, unique=True))
    values = LEAST[tool] | {key: data.draw(VALUES) for key in keys}
    imported = translated(tool, values, Options(pairs=data.draw(st.sampled_from([None, 100]))))
    if isinstance(imported, str):
        assert any(imported.startswith(key) for key in (*values, "trl.beta", "loss_weights", "label_smoothing")), (
            imported
        )
        return
    assert [outcome.key for outcome in imported.outcomes] == list(values)
    ours = {setting.key for setting in imported.settings}
    for outcome in imported.outcomes:
        assert bool(outcome.ours) == (outcome.fate in ("carried", "changed")), outcome
        assert bool(outcome.text) == (outcome.fate != "carried"), outcome
        assert {key for key in outcome.ours if key != "objective.name"} <= ours | {"objective"}, outcome
    text = to_text(imported, "theirs.yaml")
    assert yaml.safe_load(text)["out"]


@pytest.mark.parametrize(
    ("tool", "values", "says"),
    [
        ("trl", {"bata": 0.1}, "bata: not a known key of TRL; did you mean beta?"),
        ("trl", {1: 0.1}, "1: not a known key of TRL; remove it, or name another tool"),
        ("trl", {"loss_type": []}, "loss_type must be a loss, or a list of at least one, got []"),
        ("trl", {"beta": "high"}, "beta must be a number, got 'high'"),
        ("trl", {"loss_type": "kto_pair"}, "loss_type: there is no objective for 'kto_pair'"),
        ("trl", {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]},
         "loss_weights must be as many as loss_type has (2), got 1"),
        ("trl", {"loss_type": "sigmoid", "loss_weights": [0.0]}, "loss_type: all weights are 0"),
        ("trl", {"loss_type": "exo_pair"}, "label_smoothing must be above 0 with loss_type: exo_pair"),
        ("trl", {"dtype": "int8"}, "dtype must be one of auto, float32, bfloat16, float16, got 'int8'"),
        ("trl", {"f_divergence_type": "kl"}, "f_divergence_type must be one of reverse_kl, forward_kl"),
        ("trl", {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 1.5}, "objective.alpha must be"),
        ("trl", {"learning_rate": -1.0}, "training.learning_rate must be greater than 0"),
        ("trl", {"per_device_train_batch_size": 0}, "training.batch_size must be greater than 0"),
        ("axolotl", {"rl": "grpo"}, "rl must be dpo, ipo, simpo, orpo or kto, got 'grpo'"),
        ("axolotl", {"rl": None}, "rl must be dpo, ipo, simpo, orpo or kto, got nothing"),
        ("axolotl", {"datasets": [{"type": "chatml.intel"}]}, "datasets[0].path is missing"),
        ("axolotl", {"datasets": "a"}, "datasets must be a list of sections, got 'a'"),
        ("axolotl", {"datasets": [{"path": 3}]}, "datasets[0].path must be text or null"),
        ("axolotl", {"learning_rate": None}, "learning_rate is missing"),
        ("axolotl", {"adapter": "llama-adapter"}, "adapter must be lora or qlora, got 'llama-adapter'"),
        ("axolotl", {"wandb_projekt": "a"}, "wandb_projekt: not a known key of axolotl; did you mean wandb_project?"),
        ("llamafactory", {"stage": "sft"}, "stage must be dpo or kto, got 'sft'"),
        ("llamafactory", {"pref_loss": "kto_pair"}, "pref_loss: there is no objective for 'kto_pair'"),
        ("llamafactory", {"finetuning_type": "freeze"}, "finetuning_type must be lora or full, got 'freeze'"),
        ("llamafactory", {"quux": 1}, "quux: not a known key of LLaMA-Factory; remove it, or name another tool"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_is_an_error(tmp_path: Path, tool: str, values: dict[str, Any], says: str) -> None:
    file = write(tmp_path, LEAST[tool] | values)
    with pytest.raises(ConfigError) as refused:
        import_config(file, tool)
    assert str(refused.value).startswith(f"{file}: {says}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("beta: [", "not valid YAML"),
        ("beta: 0.1\nbeta: 0.2\n", "beta (line 2): given twice, first on line 1"),
        ("beta: !!python/object/apply:os.system ['x']\n", "the tag tag:yaml.org,2002:python/object/apply:os.system"),
        ("- beta\n", "a configuration is a mapping of keys to values, found list"),
        ("", "a configuration is a mapping of keys to values, found an empty file"),
        (
            "seed: 1\n",
            "it is not clear which tool this is for; say so with --from trl or trl-cpo or trl-orpo or "
            "trl-kto or axolotl or llamafactory",
        ),
    ],
)
def test_broken_files(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"theirs\.yaml") as refused:
        import_config(write(tmp_path, text))
    assert says in str(refused.value)


@pytest.mark.parametrize("tool", ["trl", "axolotl", "llamafactory"])
def test_the_tool_is_recognised_by_its_keys(tmp_path: Path, tool: str) -> None:
    names = {"trl": trl.NAME, "axolotl": axolotl.NAME, "llamafactory": llamafactory.NAME}
    assert import_config(write(tmp_path, LEAST[tool])).tool == names[tool]


def test_losses_of_trl(tmp_path: Path) -> None:
    mpo = {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0], "beta": 0.2}
    terms = objective("trl", mpo, tmp_path)
    assert [(term["name"], term["weight"], term.get("beta")) for term in terms] == [
        ("dpo", 0.8, 0.2), ("bco", 0.2, 0.2), ("sft", 1.0, None),
    ]  # fmt: skip
    names = {loss: trl.LOSSES[loss][0] for loss in trl.LOSSES}
    for loss, ours in names.items():
        assert objective("trl", {"loss_type": loss, "label_smoothing": 0.1}, tmp_path)["name"] == ours
    weighted = objective("trl", {"use_weighting": True}, tmp_path)
    assert (weighted["name"], weighted["beta"]) == ("wpo", 0.1)
    for tool, theirs in (("trl", {"use_weighting": True}), ("axolotl", {"rl": "dpo", "dpo_use_weighting": True})):
        (key,) = theirs.keys() - {"rl"}
        said = {one.key: one for one in TOOLS[tool].translate(LEAST[tool] | theirs, Options()).outcomes}[key]
        assert (said.fate, said.ours, said.text) == ("carried", ("objective.name",), ""), "wpo aligns its weights, too"
    both = trl.translate(LEAST["trl"] | {"use_weighting": True, "ld_alpha": 0.5}, Options())
    assert outcomes(both)["use_weighting"] == outcomes(both)["ld_alpha"] == "left out"


def test_losses_of_axolotl(tmp_path: Path) -> None:
    simpo = objective("axolotl", {"rl": "simpo", "rl_beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0}, tmp_path)
    assert (simpo["name"], simpo["beta"], simpo["target_margin"]) == ("simpo", 2.0, 1.0)
    simpo, nll = objective("axolotl", {"rl": "simpo"}, tmp_path)
    assert (simpo["beta"], simpo["target_margin"], nll) == (0.1, 0.5, {"name": "sft", "weight": 1.0})
    orpo = objective("axolotl", {"rl": "orpo", "orpo_alpha": 0.2}, tmp_path)
    assert (orpo["name"], orpo["odds_weight"]) == ("orpo", 0.2)
    assert objective("axolotl", {"rl": "ipo", "dpo_beta": 0.4}, tmp_path)["name"] == "ipo_norm"
    nested = objective("axolotl", {"trl": {"beta": 0.7}, "rl_beta": 0.4}, tmp_path)
    assert nested["beta"] == 0.7


def test_kto(tmp_path: Path) -> None:
    theirs = {"rl": "kto", "rl_beta": 0.3, "kto_desirable_weight": 0.5, "kto_undesirable_weight": 2.0}
    found = objective("axolotl", theirs, tmp_path)
    assert (found["name"], found["beta"], found["desirable_weight"], found["undesirable_weight"]) == (
        "kto", 0.3, 0.5, 2.0,
    )  # fmt: skip
    found = objective("llamafactory", {"stage": "kto", "pref_beta": 0.2, "kto_rejected_weight": 3.0}, tmp_path)
    assert (found["name"], found["beta"], found["desirable_weight"], found["undesirable_weight"]) == (
        "kto", 0.2, 1.0, 3.0,
    )  # fmt: skip


def test_losses_of_llamafactory(tmp_path: Path) -> None:
    smoothed = objective("llamafactory", {"dpo_label_smoothing": 0.1, "pref_beta": 0.3}, tmp_path)
    assert (smoothed["name"], smoothed["beta"], smoothed["label_smoothing"]) == ("cdpo", 0.3, 0.1)
    simpo = objective("llamafactory", {"pref_loss": "simpo", "simpo_gamma": 0.7}, tmp_path)
    assert (simpo["name"], simpo["target_margin"]) == ("simpo", 0.7)
    assert objective("llamafactory", {"pref_loss": "orpo", "pref_beta": 0.3}, tmp_path)["odds_weight"] == 0.3
    # (dpo + w bco) / (1 + w)
    dpo, bco = objective("llamafactory", {"pref_bco_weight": 3.0}, tmp_path)
    assert (dpo["name"], dpo["weight"], bco["name"], bco["weight"]) == ("dpo", 0.25, "bco", 0.75)


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("chatml.intel", {"prompt": "question"}),
        ("llama3.argilla", {"prompt": "instruction", "chosen": "chosen_response", "rejected": "rejected_response"}),
        ("chat_template.default", {"prompt": "messages"}),
        ({"field_prompt": "q", "field_chosen": "chosen", "field_rejected": "bad"}, {"prompt": "q", "rejected": "bad"}),
    ],
)
def test_columns_of_axolotl(kind: Any, columns: dict[str, str]) -> None:
    sets = [{"path": "json", "ds_type": "json", "data_files": ["a.jsonl"], "type": kind, "split": "train"}]
    imported = axolotl.translate(LEAST["axolotl"] | {"datasets": sets}, Options())
    found = {setting.key: setting.value for setting in imported.settings}
    assert found["data.pairs.path"] == ["a.jsonl"]
    assert found["data.pairs.columns"] == columns
    assert found.get("data.as_chat", False) == (kind in ("chatml.intel", "llama3.argilla"))


def test_what_is_left_of_a_data_set_is_told() -> None:
    sets = [{"path": "a", "shards": 3, "type": "own.kind"}, {"path": "b"}]
    imported = axolotl.translate(LEAST["axolotl"] | {"datasets": sets}, Options())
    [outcome] = [outcome for outcome in imported.outcomes if outcome.key == "datasets"]
    assert outcome.fate == "changed"
    assert outcome.text.startswith("only the first of 2 data sets is in data.pairs.path")
    assert "not carried: datasets[0].type, datasets[0].shards" in outcome.text


def test_steps_and_shares(tmp_path: Path) -> None:
    def training(values: dict[str, Any], options: Options = Options()) -> dict[str, Any]:  # noqa: B008
        imported = trl.translate(LEAST["trl"] | values, options)
        return {one.key.removeprefix("training."): one.value for one in imported.settings if "training." in one.key}

    assert training({"warmup_steps": 50, "max_steps": 200})["warmup"] == 0.25
    assert "epochs" not in training({"max_steps": 200})
    assert training({"warmup_steps": 0.1})["warmup"] == 0.1, "since transformers 5, less than 1 is a share"
    assert training({"warmup_ratio": 0.2})["warmup"] == 0.2
    assert training({})["warmup"] == 0.0
    # 100 pairs in steps of 8 and 3 epochs: 13 steps in each.
    known = training({"warmup_steps": 13, "save_strategy": "epoch", "eval_strategy": "epoch"}, Options(pairs=100))
    assert (known["warmup"], known["save_steps"], known["eval_steps"]) == (round(1 / 3, 6), 13, 13)
    assert training({"save_steps": 0.1, "max_steps": 200})["save_steps"] == 20
    assert training({"eval_strategy": "steps", "logging_steps": 5})["eval_steps"] == 5, "as often as it logs"
