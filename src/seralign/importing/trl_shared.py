"""Keys that all trainers of TRL share: model, adapter, data, lengths, training and evaluation."""

from __future__ import annotations

from typing import Any

from seralign.config.hints import INSTEAD
from seralign.importing.arguments import Length, Profile, carry_eval_steps, carry_training
from seralign.importing.base import Options, Sheet
from seralign.importing.parts import LORA_LEFT, ONE_TRAINING, carry_dtype, carry_source

PROFILE = Profile(
    epochs="num_train_epochs", micro_batch="per_device_train_batch_size", schedule="lr_scheduler_type",
    optimizer="optim", default_epochs=3.0, default_micro_batch=8, default_rate=1e-6, default_schedule="linear",
    default_optimizer="adamw_torch_fused", default_warmup=0.0, default_log_steps=10, precision="auto",
)  # fmt: skip


def start_sheet(values: dict[str, Any], tool: str, options: Options) -> Sheet:
    """A sheet on which output, rounds, policy, data and lengths are translated."""
    sheet = Sheet(values, tool, _devices(values, options))
    sheet.idle("num_processes", "it is in training.batch_size")
    sheet.read("num_processes", int)
    sheet.carry("out", sheet.read("output_dir", str, "trainer_output"), "output_dir")
    sheet.fix("rounds", 1, ONE_TRAINING)
    _policy(sheet)
    _data(sheet)
    return sheet


def carry_rest(sheet: Sheet) -> None:
    """Translate training, checkpointing, dropout and evaluation."""
    length = carry_training(sheet, PROFILE)
    _checkpointing(sheet)
    _evaluation(sheet, length)


def carry_sync(sheet: Sheet) -> None:
    """Translate a reference that follows the policy."""
    if sheet.read("sync_ref_model", bool, False):
        sheet.carry("reference.sync_steps", sheet.read("ref_model_sync_steps", int, 512), "ref_model_sync_steps",
                    "sync_ref_model")  # fmt: skip
        sheet.carry("reference.mixup", sheet.read("ref_model_mixup_alpha", float, 0.6), "ref_model_mixup_alpha")
    else:
        for name, kind in (("ref_model_sync_steps", int), ("ref_model_mixup_alpha", float)):
            sheet.read(name, kind)
            sheet.idle(name, "read only with sync_ref_model: true")


def _devices(values: dict[str, Any], options: Options) -> Options:
    """The number of processes, which a file of ``trl`` may have, too."""
    number = values.get("num_processes")
    whole = isinstance(number, int) and not isinstance(number, bool) and number >= 1
    return Options(number, options.pairs) if whole and options.devices == 1 else options  # pyright: ignore


def _policy(sheet: Sheet) -> None:
    if model := sheet.read("model_name_or_path", str):
        sheet.carry("policy.model", model, "model_name_or_path")
    revision = sheet.read("model_revision", str, "main")
    if revision != "main":
        sheet.carry("policy.revision", revision, "model_revision")
    sheet.idle("model_revision", "main is the default") if revision == "main" else None
    if sheet.read("trust_remote_code", bool, False):
        sheet.carry("policy.trust_remote_code", True, "trust_remote_code")
    legacy = "dtype" if sheet.given("dtype") else "torch_dtype"
    for key in ("dtype", "torch_dtype"):
        name = sheet.read(key, str)
        if key == legacy and name is not None:
            carry_dtype(sheet, key, name)
        else:
            sheet.idle(key, "dtype is set" if name is not None else "null, as if it were left out")
    lora = ("lora_r", "lora_alpha", "lora_target_modules")
    rank, alpha = sheet.read("lora_r", int, 16), sheet.read("lora_alpha", int, 32)
    modules = sheet.read("lora_target_modules", str | list[str])
    if not sheet.read("use_peft", bool, False):
        for key in (*lora, *(key for key in LORA_LEFT if key.startswith(("lora_", "use_")))):
            sheet.idle(key, "read only with use_peft: true")
        return
    sheet.carry("policy.lora.r", rank, "lora_r")
    sheet.carry("policy.lora.alpha", alpha, "lora_alpha")
    sheet.carry("policy.lora.target_modules", modules or "all-linear", *(("lora_target_modules",) if modules else ()))
    sheet.idle("use_peft", "policy.lora is set")
    if not modules:
        sheet.fix("policy.lora.target_modules", "all-linear", "without lora_target_modules, PEFT chooses fewer modules")
        sheet.leave("lora_target_modules", "PEFT chooses the modules; policy.lora.target_modules is all-linear here")


def _data(sheet: Sheet) -> None:
    name, config = sheet.read("dataset_name", str), sheet.read("dataset_config", str)
    split, test = sheet.read("dataset_train_split", str, "train"), sheet.read("dataset_test_split", str, "test")
    mixture = sheet.read("datasets", list[dict[str, Any]], [])
    if mixture:
        _mixture(sheet, mixture)
    if name is not None:
        carry_source(sheet, "data.pairs", name, "dataset_name")
        if config is not None:
            sheet.carry("data.pairs.name", config, "dataset_config")
        sheet.carry("data.pairs.split", split, "dataset_train_split")
    strategy, key = _strategy(sheet)
    if strategy not in ("steps", "epoch"):
        sheet.carry("data.heldout_fraction", 0.0, *((key,) if key else ()))
        sheet.idle("dataset_test_split", "read only with eval_strategy")
        sheet.idle("eval_steps", "read only with eval_strategy")
        sheet.read("eval_steps", float)
    elif name is not None:
        carry_source(sheet, "data.heldout", name, "dataset_name")
        if config is not None:
            sheet.carry("data.heldout.name", config, "dataset_config")
        sheet.carry("data.heldout.split", test, "dataset_test_split")
    for unread in ("dataset_config", "dataset_train_split", "dataset_test_split") if name is None else ():
        sheet.idle(unread, "read only with dataset_name")
    _lengths(sheet)


def _mixture(sheet: Sheet, mixture: list[dict[str, Any]]) -> None:
    """``datasets``, a list: only one data set with a path, a name and a split has a counterpart."""
    first = mixture[0]
    only = len(mixture) == 1 and set(first) <= {"path", "name", "split"} and isinstance(first.get("path"), str)
    if not only or any(not isinstance(value, str | None) for value in first.values()):
        sheet.leave("datasets", "data.pairs is one source: write the rows of all of them to files, and list these in "
                    "data.pairs.path")  # fmt: skip
        return
    for key, value in first.items():
        if value is not None:
            sheet.carry(f"data.pairs.{key}", value, "datasets")


def _lengths(sheet: Sheet) -> None:
    limit = sheet.read("max_length", int, 1024)
    if "max_length" in sheet.values and not sheet.given("max_length"):
        sheet.leave("max_length", "null is no limit there; data.max_length is 1024 here: set the longest that you have")
    else:
        note = "a prompt is cut to data.max_prompt_length on its own, at its start; there the end of the row is cut"
        sheet.carry("data.max_length", limit, "max_length", note=note)
    prompt = sheet.read("max_prompt_length", int)
    if prompt is not None and prompt < limit:
        sheet.carry("data.max_prompt_length", prompt, "max_prompt_length")
    sheet.leave("max_prompt_length", "it is not below max_length") if prompt is not None and prompt >= limit else None
    mode = sheet.read("truncation_mode", str, "keep_start")
    if mode == "keep_start":
        sheet.idle("truncation_mode", "data.overlong: cut keeps the start of the response")
    else:
        sheet.leave("truncation_mode", "data.overlong: cut keeps the end of the prompt and the start of the response")


def _checkpointing(sheet: Sheet) -> None:
    """``gradient_checkpointing``, and its name since transformers 5."""
    new, old = sheet.read("activation_checkpointing", bool), sheet.read("gradient_checkpointing", bool, True)
    key = "gradient_checkpointing" if new is None else "activation_checkpointing"
    sheet.carry("training.gradient_checkpointing", old if new is None else new, key)
    if new is not None:
        sheet.idle("gradient_checkpointing", "activation_checkpointing is set")
    if sheet.read("disable_dropout", bool, True):
        sheet.idle("disable_dropout", "dropout is always disabled")
    else:
        sheet.leave("disable_dropout", INSTEAD["dropout"])


def _strategy(sheet: Sheet) -> tuple[str, str | None]:
    """When held-out pairs are evaluated, and the key that says so."""
    for key in ("eval_strategy", "evaluation_strategy"):
        if sheet.given(key):
            return sheet.read(key, str), key
    return sheet.read("eval_strategy", str, "no"), None


def _evaluation(sheet: Sheet, length: Length) -> None:
    strategy, key = _strategy(sheet)
    sheet.fix("evaluation.prompts", 0, "no answers are sampled; N answers N held-out prompts")
    sheet.read("evaluation_strategy", str)
    if strategy in ("steps", "epoch"):
        carry_eval_steps(sheet, strategy, length)
        sheet.idle(key, "training.eval_steps and data.heldout have it") if key else None
    if key == "eval_strategy":
        sheet.idle("evaluation_strategy", "eval_strategy is set")
