"""Configurations of axolotl with ``rl: dpo``, ``ipo``, ``simpo``, ``orpo`` or ``kto``."""

from __future__ import annotations

from typing import Any

from seralign.errors import ConfigError
from seralign.importing.arguments import PAIRS, Length, Profile, carry_eval_steps, carry_per_epoch, carry_training
from seralign.importing.arguments_keys import EXTRA
from seralign.importing.axolotl_data import carry_rows
from seralign.importing.axolotl_keys import IDLE, LEFT
from seralign.importing.base import Imported, Options, Sheet
from seralign.importing.parts import ONE_TRAINING, carry_kto, carry_objective, term
from seralign.importing.trl import LOSSES

NAME = "axolotl"
OWN_KEYS = frozenset({
    "base_model", "rl", "datasets", "micro_batch_size", "num_epochs", "sequence_len", "adapter", "lr_scheduler",
    "optimizer", "val_set_size", "rl_beta", "dpo_beta", "lora_target_linear", "lora_r",
})  # fmt: skip

_PROFILE = Profile(
    epochs="num_epochs", micro_batch="micro_batch_size", schedule="lr_scheduler", optimizer="optimizer",
    default_epochs=1.0, default_micro_batch=1, default_rate=None, default_schedule="cosine",
    default_optimizer="adamw_torch_fused", default_warmup=0.03, default_log_steps=10, precision="auto",
    batch="batch_size",
)  # fmt: skip
_BETA = 0.1  # the default of TRL's trainers, which axolotl uses
_KTO_WEIGHTS = ("kto_desirable_weight", "kto_undesirable_weight")
_BETAS = ("rl_beta", "dpo_beta", "orpo_alpha")


def translate(values: dict[str, Any], options: Options) -> Imported:
    """Translate a configuration of axolotl.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or has no counterpart.
    """
    sheet = Sheet(values, NAME, options)
    sheet.carry("out", sheet.read("output_dir", str, "model-out"), "output_dir")
    sheet.fix("rounds", 1, ONE_TRAINING)
    _objective(sheet)
    _policy(sheet)
    length = carry_training(sheet, _PROFILE)
    _data(sheet, length)
    _checkpointing(sheet)
    carry_per_epoch(sheet, "saves_per_epoch", "training.save_steps", length)
    sheet.fix("evaluation.prompts", 0, "no answers are sampled; N answers N held-out prompts")
    return sheet.finish(EXTRA, LEFT, IDLE)


def _objective(sheet: Sheet) -> None:
    rl = sheet.read("rl", str)
    if rl not in ("dpo", "ipo", "simpo", "orpo", "kto"):
        raise ConfigError(f"rl must be dpo, ipo, simpo, orpo or kto, got {'nothing' if rl is None else repr(rl)}")
    section = sheet.read("trl", dict[str, Any], {})
    if section and set(section) != {"beta"}:
        sheet.leave("trl", "only its beta is for preference pairs")
    beta, key = (section["beta"], "trl") if "beta" in section else (None, "")
    for name in _BETAS:
        value = sheet.read(name, float)
        if value is not None and beta is None:
            beta, key = value, name
        else:
            sheet.idle(name, f"{key} is set")
    if isinstance(beta, bool) or not isinstance(beta, int | float | None):
        raise ConfigError(f"trl.beta must be a number, got {beta!r}")
    beta, beta_keys = (_BETA, ()) if beta is None else (float(beta), (key,))
    gamma, alpha = sheet.read("simpo_gamma", float, 0.5), sheet.read("cpo_alpha", float, 1.0)
    loss, smoothing = sheet.read("dpo_loss_type", str | list[str]), sheet.read("dpo_label_smoothing", float, 0.0)
    weighting, nll = sheet.read("dpo_use_weighting", bool, False), sheet.read("rpo_alpha", float)
    sources: dict[str, tuple[str, ...]] = {"name": ("rl",), "beta": beta_keys}
    if rl == "simpo":
        terms = [term("simpo", 1.0, {"beta": beta, "target_margin": gamma}), term("sft", alpha, {})]
        sources |= {"target_margin": ("simpo_gamma",), "weight": ("cpo_alpha",)}
    elif rl == "kto":
        carry_kto(sheet, "rl", _KTO_WEIGHTS, beta, beta_keys)
        terms = []
    elif rl == "orpo":
        terms = [term("orpo", 1.0, {"odds_weight": beta})]
        sources |= {"odds_weight": beta_keys}
    else:
        terms = [_dpo_term(sheet, "ipo" if rl == "ipo" else loss, beta, smoothing)]
        if rl == "dpo" and weighting and terms[0]["name"] == "dpo":
            terms[0]["name"] = "wpo"
            sources["name"] = (*sources["name"], "dpo_use_weighting")
        if rl == "dpo" and loss is not None:
            sources["name"] = (*sources["name"], "dpo_loss_type")
        if "label_smoothing" in terms[0]:
            sources["label_smoothing"] = ("dpo_label_smoothing",)
        if nll:
            terms.append(term("nll", nll, {}))
            sources["weight"] = ("rpo_alpha",)
    if terms:
        carry_objective(sheet, terms, sources)
        for name in _KTO_WEIGHTS:
            sheet.read(name, float)
            sheet.idle(name, "read only with rl: kto")
    if rl == "orpo":
        sheet.change("rl", "the SFT term is averaged over each response first, in axolotl over all tokens of a batch")
    if rl == "ipo":
        sheet.change("rl", LOSSES["ipo"][1])
    read_by = {"simpo_gamma": "simpo", "cpo_alpha": "simpo", "dpo_loss_type": "dpo", "dpo_use_weighting": "dpo"}
    for name, owner in (read_by | {"rpo_alpha": "dpo", "dpo_label_smoothing": "dpo"}).items():
        if not sheet.has(name):
            off = not sheet.values.get(name)
            sheet.idle(name, "it is off" if off else f"read only with rl: {owner}, or has no effect on this loss")


def _dpo_term(sheet: Sheet, loss: str | list[str] | None, beta: float, smoothing: float) -> dict[str, Any]:
    names = ["sigmoid"] if loss is None else [loss] if isinstance(loss, str) else loss
    if len(names) != 1 or names[0] not in LOSSES or names[0] == "sft":
        raise ConfigError(f"dpo_loss_type must be one of {', '.join(LOSSES)} without sft, got {', '.join(names)!r}")
    ours, note = LOSSES[names[0]]
    if note:
        sheet.carry("objective.name", ours, "dpo_loss_type", note=note)
    if names[0] in ("exo_pair", "robust"):
        if names[0] == "robust" and smoothing == 0.0:
            return term("dpo", 1.0, {"beta": beta})
        return term(ours, 1.0, {"beta": beta, "label_smoothing": smoothing})
    return term(ours, 1.0, {"beta": beta})


def _policy(sheet: Sheet) -> None:
    if model := sheet.read("base_model", str):
        sheet.carry("policy.model", model, "base_model")
    for key, ours in (("revision_of_model", "policy.revision"), ("tokenizer_config", "policy.tokenizer")):
        if value := sheet.read(key, str):
            sheet.carry(ours, value, key)
    if sheet.read("trust_remote_code", bool, False):
        sheet.carry("policy.trust_remote_code", True, "trust_remote_code")
    template, text = sheet.read("chat_template", str), sheet.read("chat_template_jinja", str)
    if text is not None:
        sheet.carry("policy.chat_template", text, "chat_template_jinja")
        sheet.idle("chat_template", "chat_template_jinja is set")
    elif template in ("tokenizer_default", "jinja") or (template or "").startswith("tokenizer_default"):
        sheet.idle("chat_template", "the template of the tokenizer is the default")
    else:
        sheet.leave("chat_template", f"the template of the tokenizer is used, not axolotl's {template}; set "
                    "policy.chat_template to a file with another one")  # fmt: skip
    _weights(sheet)
    _adapter(sheet)
    if system := sheet.read("default_system_message", str):
        sheet.carry("data.system", system, "default_system_message")


def _weights(sheet: Sheet) -> None:
    """Types of the weights without mixed precision."""
    found = ""
    for key, name in (("bfloat16", "bfloat16"), ("float16", "float16"), ("float32", "float32")):
        if not sheet.read(key, bool, False):
            sheet.idle(key, "it is off")
        elif found:
            sheet.leave(key, f"{found} is set")
        else:
            found = key
            sheet.carry("policy.dtype", name, key)
    if name := sheet.read("torch_dtype", str):
        sheet.leave("torch_dtype", f"set policy.dtype to {name} for weights of this type")


def _adapter(sheet: Sheet) -> None:
    kind, folder = sheet.read("adapter", str), sheet.read("lora_model_dir", str)
    rank, alpha = sheet.read("lora_r", int, 8), sheet.read("lora_alpha", int, 8)
    modules = sheet.read("lora_target_modules", str | list[str])
    linear = sheet.read("lora_target_linear", bool, False)
    keys = ("lora_r", "lora_alpha", "lora_target_modules", "lora_target_linear")
    if kind not in (None, "lora", "qlora"):
        raise ConfigError(f"adapter must be lora or qlora, got {kind!r}")
    if folder is not None and kind is not None:
        sheet.carry("policy.adapter", folder, "lora_model_dir")
        sheet.idle("adapter", "policy.adapter is trained further")
        for key in keys:
            sheet.idle(key, "it is that of the adapter lora_model_dir")
    elif kind is not None:
        sheet.carry("policy.lora.r", rank, "lora_r")
        sheet.carry("policy.lora.alpha", alpha, "lora_alpha")
        if linear or not modules:
            sheet.carry("policy.lora.target_modules", "all-linear", *(("lora_target_linear",) if linear else ()))
            sheet.idle("lora_target_modules", "lora_target_linear is set")
        else:
            sheet.carry("policy.lora.target_modules", modules, "lora_target_modules")
        sheet.idle("adapter", "policy.lora is set")
        if kind == "qlora":
            sheet.leave("adapter", "the adapter is plain LoRA (policy.lora): weights are not quantized")
    else:
        for key in (*keys, "lora_model_dir", "lora_dropout"):
            sheet.idle(key, "read only with adapter")


def _data(sheet: Sheet, length: Length) -> None:
    carry_rows(sheet, "datasets", "data.pairs")
    share, tests = sheet.read("val_set_size", float, 0.0), sheet.given("test_datasets")
    if tests:
        carry_rows(sheet, "test_datasets", "data.heldout")
        sheet.idle("val_set_size", "test_datasets is set")
    elif share < 1:
        sheet.carry("data.heldout_fraction", share, "val_set_size")
    elif sheet.options.pairs:
        fraction = min(round(share / sheet.options.pairs, 6), 0.9)
        sheet.carry("data.heldout_fraction", fraction, "val_set_size", note="as a share of the prompts")
    else:
        sheet.leave("val_set_size", f"data.heldout_fraction is a share, and is at its default now; {PAIRS}")
    _evaluations(sheet, tests or share > 0, length)
    limit, prompt = sheet.read("sequence_len", int, 512), sheet.read("max_prompt_len", int)
    sheet.carry("data.max_length", limit, "sequence_len")
    strategy = sheet.read("excess_length_strategy", str, "drop")
    if strategy == "drop":
        sheet.carry("data.overlong", "drop", "excess_length_strategy")
    else:
        note = "the start of a prompt and the end of a response are cut"
        sheet.carry("data.overlong", "cut", "excess_length_strategy", note=note)
    if prompt is not None and prompt < limit:
        sheet.carry("data.max_prompt_length", prompt, "max_prompt_len")
    else:
        sheet.fix("data.max_prompt_length", max(1, limit - 1), "no limit of its own")
        sheet.leave("max_prompt_len", "it is not below sequence_len")


def _evaluations(sheet: Sheet, heldout: bool, length: Length) -> None:
    strategy = next(
        (sheet.read(key, str) for key in ("eval_strategy", "evaluation_strategy") if sheet.given(key)), None
    )
    for key in ("eval_strategy", "evaluation_strategy"):
        sheet.read(key, str)
        sheet.idle(key, "held-out pairs and training.eval_steps decide it")
    for key in ("eval_steps", "evals_per_epoch"):
        sheet.read(key, float)
    if not heldout or strategy == "no":
        for key in ("eval_steps", "evals_per_epoch"):
            sheet.idle(key, "there is no evaluation during training")
    elif sheet.given("eval_steps"):
        carry_eval_steps(sheet, "steps", length)
        sheet.idle("evals_per_epoch", "eval_steps is set")
    elif strategy == "epoch":
        carry_eval_steps(sheet, "epoch", length)
    else:
        carry_per_epoch(sheet, "evals_per_epoch", "training.eval_steps", length)


def _checkpointing(sheet: Sheet) -> None:
    value = sheet.read("gradient_checkpointing", bool | str, False)
    note = f"{value} is plain checkpointing here" if isinstance(value, str) else ""
    sheet.carry("training.gradient_checkpointing", bool(value), "gradient_checkpointing", note=note)
    names = {"use_wandb": "wandb", "use_tensorboard": "tensorboard", "use_mlflow": "mlflow", "use_comet": "comet_ml"}
    asked = [key for key in names if sheet.read(key, bool, False)]
    if sheet.given("wandb_project") and "use_wandb" not in asked and sheet.values.get("use_wandb") is not False:
        asked.append("wandb_project")
    if asked:
        trackers = [names.get(key, "wandb") for key in asked]
        sheet.carry("training.report_to", trackers, *asked)
        if "wandb_project" in asked:
            sheet.change("wandb_project", "set the name of the project in WANDB_PROJECT")
