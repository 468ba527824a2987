"""Whole files of each tool: the exact configuration, and what is said about each key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from seralign.cli.main import main
from seralign.config import load_config
from seralign.config.load import to_dict

TRL = """
# trl dpo --config dpo.yaml
model_name_or_path: Qwen/Qwen2-0.5B-Instruct
dataset_name: trl-lib/ultrafeedback_binarized
learning_rate: 5.0e-7
num_train_epochs: 1
per_device_train_batch_size: 2
gradient_accumulation_steps: 8
num_processes: 4
loss_type: ipo
beta: 0.2
max_length: 2048
max_prompt_length: 512
eval_strategy: steps
eval_steps: 50
output_dir: Qwen2-0.5B-DPO
remove_unused_columns: false
bf16: true
gradient_checkpointing: false
precompute_ref_log_probs: true
warmup_ratio: 0.1
lr_scheduler_type: cosine
adam_beta2: 0.95
use_peft: true
lora_r: 32
lora_alpha: 16
lora_target_modules: [q_proj, v_proj]
lora_dropout: 0.05
report_to: [wandb]
hub_token: hf_aaaaaaaaaaaaaaaaaaaaaaaa
"""
AXOLOTL = """
base_model: meta-llama/Meta-Llama-3-8B-Instruct
model_type: LlamaForCausalLM
special_tokens: {pad_token: <|end|>}
load_in_8bit: true
load_in_4bit: false
chat_template: llama3
rl: dpo
rl_beta: 0.3
datasets:
  - path: fozziethebeat/alpaca_messages_2k_dpo_test
    type: chat_template.default
    field_messages: conversation
    field_chosen: chosen
    field_rejected: rejected
    roles: {user: [user], assistant: [assistant]}
dataset_prepared_path:
val_set_size: 0.05
output_dir: ./outputs/lora-out
sequence_len: 4096
sample_packing: false
pad_to_sequence_len: true
adapter: lora
lora_model_dir:
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
wandb_project:
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 4
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: 0.0002
bf16: auto
tf32: false
gradient_checkpointing: true
logging_steps: 1
flash_attention: true
warmup_steps: 10
evals_per_epoch: 4
saves_per_epoch: 1
weight_decay: 0.0
"""
LLAMAFACTORY = """
### model
model_name_or_path: Qwen/Qwen3-4B-Instruct-2507
trust_remote_code: true
### method
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: q_proj, v_proj
pref_beta: 0.1
pref_loss: sigmoid  # choices: [sigmoid (dpo), orpo, simpo]
pref_ftx: 0.5
### dataset
dataset: dpo_en_demo
dataset_dir: DIR
template: qwen3_nothink
cutoff_len: 2048
max_samples: 1000
preprocessing_num_workers: 16
dataloader_num_workers: 4
### output
output_dir: saves/qwen3-4b/lora/dpo
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
report_to: none  # choices: [none, wandb, tensorboard, swanlab, mlflow]
### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 5.0e-6
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null
"""


def run(text: str, folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[dict[str, Any], str, str]:
    """The keys that differ from seralign's defaults, as they are printed and read back; the YAML; standard error."""
    file = folder / "theirs.yaml"
    file.write_text(text, encoding="utf-8")
    assert main(["import-config", str(file), *flags]) == 0
    printed = capsys.readouterr()
    ours = folder / "ours.yaml"
    ours.write_text(printed.out, encoding="utf-8")
    config = load_config(ours)
    with pytest.raises(SystemExit, match="0"):
        main(["train", str(ours), "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out) == to_dict(config)
    return yaml.safe_load(printed.out), printed.out, printed.err


def test_trl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values, text, told = run(TRL, tmp_path, capsys)
    assert values == {
        "out": "Qwen2-0.5B-DPO", "seed": 42, "rounds": 1,
        "policy": {
            "model": "Qwen/Qwen2-0.5B-Instruct",
            "lora": {"r": 32, "alpha": 16, "target_modules": ["q_proj", "v_proj"]},
        },
        "data": {
            "pairs": {"path": "trl-lib/ultrafeedback_binarized", "split": "train"},
            "heldout": {"path": "trl-lib/ultrafeedback_binarized", "split": "test"},
            "max_length": 2048, "max_prompt_length": 512,
        },
        "objective": {"name": "ipo_norm", "beta": 0.2},
        "training": {
            "learning_rate": 5e-7, "schedule": "cosine", "warmup": 0.1, "epochs": 1.0, "batch_size": 64,
            "precision": "bfloat16", "weight_decay": 0.0, "max_grad_norm": 1.0, "optimizer": "adamw_torch_fused",
            "gradient_checkpointing": False, "log_steps": 10, "eval_steps": 50, "report_to": ["wandb"],
            "extra": {"adam_beta2": 0.95},
        },
        "evaluation": {"prompts": 0},
    }  # fmt: skip
    lines = told.splitlines()
    assert [line.split(":")[1].strip() for line in lines if line.startswith("left out")] == [
        "precompute_ref_log_probs", "lora_dropout", "hub_token",
    ]  # fmt: skip
    assert "changed: loss_type -> objective.name: TRL's ipo is ours normalised by length; objective.name: ipo is the " \
        "paper's, with sums" in lines  # fmt: skip
    assert "changed: gradient_accumulation_steps -> training.batch_size: pairs of a step: 2 x 8 x 4 devices; memory " \
        "is limited by training.tokens_per_pack" in lines  # fmt: skip
    assert "left out: lora_dropout: dropout is always disabled, so that policy and reference can be compared" in lines
    assert "no effect: num_processes: it is in training.batch_size" in lines
    assert "hf_a" not in text + told, "a secret is not copied"
    assert "# - hub_token: set HF_TOKEN in the environment; the value is not copied" in text
    assert "  learning_rate: 5.0e-07  # learning_rate\n" in text


def test_axolotl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values, _, told = run(AXOLOTL, tmp_path, capsys, "--pairs", "1000", "--devices", "2")
    assert values == {
        "out": "./outputs/lora-out", "seed": 42, "rounds": 1,
        "policy": {
            "model": "meta-llama/Meta-Llama-3-8B-Instruct",
            "lora": {"r": 32, "alpha": 16, "target_modules": "all-linear"},
        },
        "data": {
            "pairs": {
                "path": "fozziethebeat/alpaca_messages_2k_dpo_test", "columns": {"prompt": "conversation"},
            },
            "heldout_fraction": 0.05, "max_length": 4096, "max_prompt_length": 4095, "overlong": "drop",
        },
        "objective": {"name": "dpo", "beta": 0.3},
        # 1000 pairs in steps of 2 x 4 x 2: 63 steps in each of 4 epochs.
        "training": {
            "learning_rate": 0.0002, "schedule": "cosine", "warmup": round(10 / 252, 6), "epochs": 4.0,
            "batch_size": 16, "precision": "auto", "weight_decay": 0.0, "max_grad_norm": 1.0,
            "optimizer": "adamw_bnb_8bit", "gradient_checkpointing": True, "save_steps": 63, "log_steps": 1,
            "eval_steps": 16, "report_to": [],
        },
        "evaluation": {"prompts": 0},
    }  # fmt: skip
    left = [line.split(":")[1].strip() for line in told.splitlines() if line.startswith("left out")]
    assert left == ["special_tokens", "load_in_8bit", "chat_template", "lora_dropout", "flash_attention"]
    assert "changed: warmup_steps -> training.warmup: 10 of 252 steps, as a share" in told


def test_without_the_number_of_pairs_nothing_is_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values, _, told = run(AXOLOTL, tmp_path, capsys)
    assert values["training"]["warmup"] == 0.0
    assert not {"eval_steps", "save_steps"} & values["training"].keys()
    for key in ("warmup_steps", "evals_per_epoch", "saves_per_epoch"):
        [line] = [line for line in told.splitlines() if line.startswith(f"left out: {key}: ")]
        assert line.endswith("give the number of training pairs with --pairs to convert it")


def test_llamafactory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = LLAMAFACTORY.replace("DIR", str(tmp_path))
    info = {"dpo_en_demo": {"file_name": "dpo_en.json", "ranking": True, "formatting": "sharegpt",
                            "columns": {"messages": "turns", "chosen": "chosen", "rejected": "worse"}}}  # fmt: skip
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    values, _, told = run(text, tmp_path, capsys)
    assert values == {
        "out": "saves/qwen3-4b/lora/dpo", "seed": 42, "rounds": 1,
        "policy": {
            "model": "Qwen/Qwen3-4B-Instruct-2507", "trust_remote_code": True,
            "lora": {"r": 8, "alpha": 16, "target_modules": ["q_proj", "v_proj"]},
        },
        "data": {
            "pairs": {
                "path": str(tmp_path / "dpo_en.json"), "columns": {"prompt": "turns", "rejected": "worse"},
                "limit": 1000,
            },
            "heldout_fraction": 0.0, "max_length": 2048, "as_chat": True,
        },
        "objective": [{"name": "dpo", "weight": 1.0, "beta": 0.1}, {"name": "nll", "weight": 0.5}],
        "training": {
            "learning_rate": 5e-6, "schedule": "cosine", "warmup": 0.1, "epochs": 3.0, "batch_size": 8,
            "precision": "bfloat16", "weight_decay": 0.0, "max_grad_norm": 1.0, "optimizer": "adamw_torch",
            "gradient_checkpointing": True, "save_steps": 500, "log_steps": 10, "report_to": [],
            "extra": {"dataloader_num_workers": 4},
        },
        "evaluation": {"prompts": 0},
    }  # fmt: skip
    assert "left out: template: the tokenizer's template is used, not qwen3_nothink" in told
    (tmp_path / "dataset_info.json").unlink()
    values, _, told = run(text, tmp_path, capsys)
    assert values["data"]["pairs"]["path"] == "dpo_en_demo"
    assert "dataset_info.json is not here: set data.pairs.path to the file" in told


def test_a_file_is_written_once_and_flags_override_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "theirs.yaml", tmp_path / "ours.yaml"
    file.write_text("loss_type: sigmoid\nbeta: 0.5\n")
    assert main(["import-config", str(file), "--out", str(out)]) == 2
    assert f"error: {file}: policy.model is missing" in capsys.readouterr().err
    assert not out.exists()
    flags = ["--policy.model", "m", "--data.pairs.path", "p.jsonl", "--objective.beta", "0.25"]
    assert main(["import-config", str(file), "--out", str(out), *flags]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    config = load_config(out)
    assert to_dict(config)["objective"]["beta"] == 0.25
    assert config.policy.model == "m"
    before = out.read_bytes()
    assert main(["import-config", str(file), "--out", str(out), *flags]) == 2
    assert f"error: {out} already exists" in capsys.readouterr().err
    assert out.read_bytes() == before
