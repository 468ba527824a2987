"""Configurations of LLaMA-Factory with ``stage: dpo`` or ``kto``."""

from __future__ import annotations

from typing import Any

from seralign.errors import ConfigError
from seralign.importing.arguments import PAIRS, Length, Profile, carry_eval_steps, carry_training
from seralign.importing.arguments_keys import EXTRA
from seralign.importing.base import Imported, Options, Sheet
from seralign.importing.llamafactory_data import carry_rows
from seralign.importing.llamafactory_keys import IDLE, LEFT
from seralign.importing.parts import ONE_TRAINING, carry_kto, carry_objective, term
from seralign.importing.trl import LOSSES

NAME = "LLaMA-Factory"
OWN_KEYS = frozenset({
    "stage", "finetuning_type", "pref_beta", "pref_loss", "pref_ftx", "cutoff_len", "dataset_dir", "template",
    "lora_rank", "lora_target", "dataset", "model_name_or_path", "val_size", "plot_loss",
})  # fmt: skip

_PROFILE = Profile(
    epochs="num_train_epochs", micro_batch="per_device_train_batch_size", schedule="lr_scheduler_type",
    optimizer="optim", default_epochs=3.0, default_micro_batch=8, default_rate=5e-5, default_schedule="linear",
    default_optimizer="adamw_torch", default_warmup=0.0, default_log_steps=500, precision="float32",
)  # fmt: skip

_KTO_WEIGHTS = ("kto_chosen_weight", "kto_rejected_weight")


def translate(values: dict[str, Any], options: Options) -> Imported:
    """Translate a configuration of LLaMA-Factory. Reads ``dataset_info.json`` in ``dataset_dir``, if it is there.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or has no counterpart.
    """
    sheet = Sheet(values, NAME, options)
    stage = sheet.read("stage", str, "sft")
    if stage not in ("dpo", "kto"):
        raise ConfigError(f"stage must be dpo or kto, got {stage!r}")
    if stage == "dpo":
        sheet.idle("stage", "objective.name has the loss")
    sheet.carry("out", sheet.read("output_dir", str, "saves/dpo"), "output_dir")
    sheet.fix("rounds", 1, ONE_TRAINING)
    _policy(sheet)
    _adapter(sheet)
    _reference(sheet)
    _kto(sheet) if stage == "kto" else _objective(sheet)
    length = carry_training(sheet, _PROFILE)
    _data(sheet, length)
    for key in ("gradient_checkpointing", "activation_checkpointing"):
        sheet.read(key, bool)
        sheet.idle(key, "LLaMA-Factory reads disable_gradient_checkpointing")
    off = sheet.read("disable_gradient_checkpointing", bool, False)
    sheet.carry("training.gradient_checkpointing", not off, "disable_gradient_checkpointing")
    sheet.fix("evaluation.prompts", 0, "no answers are sampled; N answers N held-out prompts")
    return sheet.finish(EXTRA, LEFT, IDLE)


def _policy(sheet: Sheet) -> None:
    if model := sheet.read("model_name_or_path", str):
        sheet.carry("policy.model", model, "model_name_or_path")
    revision = sheet.read("model_revision", str, "main")
    if revision == "main":
        sheet.idle("model_revision", "main is the default")
    else:
        sheet.carry("policy.revision", revision, "model_revision")
    if sheet.read("trust_remote_code", bool, False):
        sheet.carry("policy.trust_remote_code", True, "trust_remote_code")
    if sheet.read("pure_bf16", bool, False):
        sheet.carry("policy.dtype", "bfloat16", "pure_bf16")
    if sheet.given("template"):
        sheet.leave("template", f"the tokenizer's template is used, not {sheet.read('template', str)}; for another "
                    "one, set policy.chat_template to its file")  # fmt: skip
        sheet.fix("data.as_chat", True, "LLaMA-Factory puts text into its template")
    sheet.read("template", str)
    if system := sheet.read("default_system", str):
        sheet.carry("data.system", system, "default_system")
    thinking = sheet.read("enable_thinking", bool)
    if thinking is not None:
        sheet.carry("data.chat_template_kwargs", {"enable_thinking": thinking}, "enable_thinking")


def _adapter(sheet: Sheet) -> None:
    kind, folder = sheet.read("finetuning_type", str, "lora"), sheet.read("adapter_name_or_path", str)
    rank, alpha = sheet.read("lora_rank", int, 8), sheet.read("lora_alpha", int)
    target = sheet.read("lora_target", str | list[str], "all")
    new = sheet.read("create_new_adapter", bool, False)
    keys = ("lora_rank", "lora_alpha", "lora_target")
    if kind not in ("lora", "full"):
        raise ConfigError(
            f"finetuning_type must be lora or full, got {kind!r}; seralign trains an adapter or all weights"
        )
    if kind == "full":
        for key in (*keys, "create_new_adapter", "lora_dropout"):
            sheet.idle(key, "read only with finetuning_type: lora")
        sheet.idle("finetuning_type", "without policy.lora, all weights are trained")
        sheet.leave("adapter_name_or_path", "merge it first (seralign merge), and train the merged model")
        return
    if folder is not None:
        if "," in folder:
            sheet.leave("adapter_name_or_path", "policy.adapter is one adapter: merge the others into the model first")
        else:
            sheet.carry("policy.adapter", folder, "adapter_name_or_path")
    sheet.idle("finetuning_type", "policy.lora, or policy.adapter, is set")
    if folder is not None and not new:
        for key in (*keys, "create_new_adapter"):
            sheet.idle(key, "it is that of adapter_name_or_path")
        return
    sheet.idle("create_new_adapter", "policy.lora is a new adapter")
    names = [name.strip() for name in target.split(",")] if isinstance(target, str) else target
    sheet.carry("policy.lora.r", rank, "lora_rank")
    sheet.carry("policy.lora.alpha", 2 * rank if alpha is None else alpha, "lora_alpha")
    sheet.carry("policy.lora.target_modules", "all-linear" if names == ["all"] else names, "lora_target")


def _reference(sheet: Sheet) -> None:
    model, adapter = sheet.read("ref_model", str), sheet.read("ref_model_adapters", str)
    if model is not None:
        sheet.carry("reference.model", model, "ref_model")
        if adapter is not None:
            sheet.carry("reference.adapter", adapter, "ref_model_adapters")
    else:
        sheet.leave("ref_model_adapters", "reference.adapter needs reference.model")
    sheet.idle("ref_model", "null: the reference is the policy before training") if model is None else None


def _kto(sheet: Sheet) -> None:
    carry_kto(sheet, "stage", _KTO_WEIGHTS, sheet.read("pref_beta", float, 0.1), ("pref_beta",))
    for key in ("pref_loss", "dpo_label_smoothing", "simpo_gamma", "pref_bco_weight", "ld_alpha"):
        sheet.read(key, str | float)
        sheet.idle(key, "read only with stage: dpo")
    if sheet.read("pref_ftx", float, 0.0) > 0.0:
        sheet.leave("pref_ftx", "nll imitates all responses, also the undesirable ones")


def _objective(sheet: Sheet) -> None:
    loss, beta = sheet.read("pref_loss", str, "sigmoid"), sheet.read("pref_beta", float, 0.1)
    smoothing, gamma = sheet.read("dpo_label_smoothing", float, 0.0), sheet.read("simpo_gamma", float, 0.5)
    ftx, bco = sheet.read("pref_ftx", float, 0.0), sheet.read("pref_bco_weight", float, 0.0)
    cut = sheet.read("ld_alpha", float)
    sources = {"name": ("pref_loss",), "beta": ("pref_beta",), "odds_weight": ("pref_beta",)}
    if loss == "orpo":
        first = term("orpo", 1.0, {"odds_weight": beta})
    elif loss == "simpo":
        first = term("simpo", 1.0, {"beta": beta, "target_margin": gamma})
        sources["target_margin"] = ("simpo_gamma",)
    elif loss in ("sigmoid", "hinge", "ipo"):
        first = term(LOSSES[loss][0], 1.0, {"beta": beta})
    else:
        raise ConfigError(
            f"pref_loss: there is no objective for {loss!r}; there is one for sigmoid, hinge, ipo, orpo, simpo"
        )
    if loss == "sigmoid" and smoothing > 0.0:
        first |= {"name": "cdpo", "label_smoothing": smoothing}
        sources["label_smoothing"] = ("dpo_label_smoothing",)
    elif loss == "sigmoid" and cut is not None:
        first |= {"name": "ld_dpo", "alpha": cut}
        sources["alpha"] = ("ld_alpha",)
    if loss != "simpo":
        sheet.idle("simpo_gamma", "read only with pref_loss: simpo")
    if "label_smoothing" not in first:
        sheet.idle("dpo_label_smoothing", "read only with pref_loss: sigmoid" if smoothing else "it is off")
    if "alpha" not in first and cut is not None:
        sheet.leave("ld_alpha", "ld_dpo is for pref_loss: sigmoid, without label smoothing")
    for key in _KTO_WEIGHTS:
        sheet.read(key, float)
        sheet.idle(key, "read only with stage: kto")
    terms, weights = [first], []
    if bco > 0.0 and loss in ("sigmoid", "hinge", "ipo"):
        first["weight"] = round(1.0 / (1.0 + bco), 9)
        terms.append(term("bco", round(bco / (1.0 + bco), 9), {"beta": beta}))
        weights.append("pref_bco_weight")
    else:
        sheet.idle("pref_bco_weight", "read only by losses with a reference" if bco else "it is off")
    if ftx > 0.0:
        terms.append(term("nll", ftx, {}))
        weights.append("pref_ftx")
    else:
        sheet.idle("pref_ftx", "it is off")
    carry_objective(sheet, terms, {key: keys for key, keys in sources.items() if key in first}
                    | {"weight": tuple(weights)})  # fmt: skip
    sheet.change("pref_bco_weight", "the shift of bco is the mean reward of the steps before, there also of the step")
    if first["name"] == "ipo_norm":
        sheet.change("pref_loss", "it is our ipo normalised by length; objective.name: ipo is the paper's, with sums")
    if first["name"] == "ld_dpo":
        sheet.change(
            "ld_alpha", "the reference counts tokens past the shorter length alpha, too; there it counts them 1"
        )


def _data(sheet: Sheet, length: Length) -> None:
    carry_rows(sheet, "dataset", "data.pairs")
    share, most = sheet.read("val_size", float, 0.0), sheet.read("max_samples", int)
    if sheet.given("eval_dataset"):
        carry_rows(sheet, "eval_dataset", "data.heldout")
        sheet.idle("val_size", "eval_dataset is set")
    elif share < 1:
        sheet.carry("data.heldout_fraction", share, "val_size")
    elif sheet.options.pairs:
        fraction = min(round(share / sheet.options.pairs, 6), 0.9)
        sheet.carry("data.heldout_fraction", fraction, "val_size", note="as a share of the prompts")
    else:
        sheet.leave("val_size", f"data.heldout_fraction is a share, and is at its default now; {PAIRS}")
    sheet.read("eval_dataset", str | list[str])
    if most is not None:
        sheet.carry("data.pairs.limit", most, "max_samples")
    note = "prompt and response are cut by data.overlong: cut; there both in proportion to their lengths"
    sheet.carry("data.max_length", sheet.read("cutoff_len", int, 2048), "cutoff_len", note=note)
    _evaluation(sheet, length, share > 0 or sheet.given("eval_dataset"))


def _evaluation(sheet: Sheet, length: Length, heldout: bool) -> None:
    keys = ("eval_strategy", "evaluation_strategy")
    strategy = next((sheet.read(key, str) for key in keys if sheet.given(key)), "no")
    for key in keys:
        sheet.read(key, str)
        sheet.idle(key, "held-out pairs and training.eval_steps decide it")
    sheet.read("eval_steps", float)
    if heldout and strategy in ("steps", "epoch"):
        carry_eval_steps(sheet, strategy, length)
    else:
        sheet.idle("eval_steps", "there is no evaluation during training")
