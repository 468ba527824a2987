"""Keys of ``transformers.TrainingArguments``, which all three tools have, some under other names."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seralign.errors import ConfigError
from seralign.importing.base import Sheet


@dataclass(frozen=True)
class Profile:
    """The names of four keys in a tool, and its defaults.

    Args:
        epochs: Key of the number of epochs.
        micro_batch: Key of the pairs in a forward pass of one process.
        schedule: Key of the learning-rate schedule.
        optimizer: Key of the optimizer.
        default_epochs: Default of the number of epochs.
        default_micro_batch: Default of the pairs in a forward pass.
        default_rate: Default learning rate; None if the tool has none.
        default_schedule: Default schedule.
        default_optimizer: Default optimizer.
        default_warmup: Default share of the steps for warmup.
        default_log_steps: Default number of steps between lines of metrics.
        precision: Precision where the file names none.
        batch: Key of the pairs in a step of one process, in place of the number of accumulated passes.
    """

    epochs: str
    micro_batch: str
    schedule: str
    optimizer: str
    default_epochs: float
    default_micro_batch: int
    default_rate: float | None
    default_schedule: str
    default_optimizer: str
    default_warmup: float
    default_log_steps: int
    precision: str
    batch: str | None = None


PAIRS = "give the number of training pairs with --pairs to convert it"
# Optimizers and schedules that only axolotl has.
_OWN_OPTIMIZERS = {
    "muon", "dion", "optimi_adamw", "ao_adamw_4bit", "ao_adamw_8bit", "ao_adamw_fp8", "adopt_adamw", "came_pytorch",
    "sinkgd", "q_galore_adamw8bit",
}  # fmt: skip
_OWN_SCHEDULES = {"one_cycle", "rex"}


def carry_training(sheet: Sheet, profile: Profile) -> Length:
    """Translate optimizer, schedule, batches, precision, checkpoints and trackers; returns the length.

    Raises:
        ConfigError: A value has the wrong type.
    """
    _optimizer(sheet, profile)
    length = _length(sheet, profile, _batch(sheet, profile))
    _warmup(sheet, profile, length.steps)
    _precision(sheet, profile)
    _saving(sheet, profile, length)
    _trackers(sheet)
    sheet.carry("seed", sheet.read("seed", int, 42), "seed")
    return length


def _optimizer(sheet: Sheet, profile: Profile) -> None:
    rate = sheet.read("learning_rate", float, profile.default_rate)
    if rate is None:
        raise ConfigError("learning_rate is missing")
    sheet.carry("training.learning_rate", rate, "learning_rate")
    for key, ours, default, own in (
        (profile.schedule, "training.schedule", profile.default_schedule, _OWN_SCHEDULES),
        (profile.optimizer, "training.optimizer", profile.default_optimizer, _OWN_OPTIMIZERS),
    ):
        name = sheet.read(key, str, default)
        if name in own:
            sheet.leave(key, f"transformers has no {name}; {ours} is left at its default")
        else:
            sheet.carry(ours, name, key)
    for key, default in (("weight_decay", 0.0), ("max_grad_norm", 1.0)):
        sheet.carry(f"training.{key}", sheet.read(key, float, default), key)


def _batch(sheet: Sheet, profile: Profile) -> int:
    """Set the pairs of a step; returns them."""
    devices, whole = sheet.options.devices, profile.batch
    of_devices = f"{devices} device{'s' * (devices != 1)}"
    if whole is not None and sheet.given(whole):
        own = sheet.read(whole, int)
        note = f"pairs of a step: {own} x {of_devices}"
        sheet.carry("training.batch_size", own * devices, whole, note=note)
        for key in (profile.micro_batch, "gradient_accumulation_steps"):
            sheet.idle(key, f"{whole} is set")
        return own * devices
    micro = sheet.read(profile.micro_batch, int, profile.default_micro_batch)
    accumulation = sheet.read("gradient_accumulation_steps", int, 1)
    note = f"pairs of a step: {micro} x {accumulation} x {of_devices}; memory is limited by training.tokens_per_pack"
    keys = (profile.micro_batch, "gradient_accumulation_steps")
    sheet.carry("training.batch_size", micro * accumulation * devices, *keys, note=note)
    return micro * accumulation * devices


@dataclass(frozen=True)
class Length:
    """The steps of a training and of an epoch; None where they are not known."""

    steps: int | None
    per_epoch: int | None


def _length(sheet: Sheet, profile: Profile, batch: int) -> Length:
    """Set epochs or steps."""
    epochs = sheet.read(profile.epochs, float, profile.default_epochs)
    most, pairs = sheet.read("max_steps", int, -1), sheet.options.pairs
    per_epoch = None if pairs is None or batch < 1 else math.ceil(pairs / batch)
    if most > 0:
        sheet.carry("training.max_steps", most, "max_steps")
        sheet.idle(profile.epochs, "max_steps is set")
        return Length(most, per_epoch)
    sheet.idle("max_steps", "it is off")
    sheet.carry("training.epochs", epochs, profile.epochs)
    return Length(None if per_epoch is None else math.ceil(per_epoch * epochs), per_epoch)


def _warmup(sheet: Sheet, profile: Profile, steps: int | None) -> None:
    ratio, number = sheet.read("warmup_ratio", float, 0.0), sheet.read("warmup_steps", float, 0.0)
    ours = "training.warmup"
    if number >= 1:  # steps override the ratio in transformers
        sheet.idle("warmup_ratio", "warmup_steps is set")
        if steps is None:
            sheet.leave("warmup_steps", f"{ours} is a share of all steps, and is 0 now; {PAIRS}")
            sheet.fix(ours, 0.0, "warmup_steps could not be converted")
        else:
            note = f"{number:g} of {steps} steps, as a share"
            sheet.carry(ours, min(round(number / steps, 6), 0.999999), "warmup_steps", note=note)
    elif number > 0 or (sheet.given("warmup_steps") and not ratio):
        sheet.carry(ours, number, "warmup_steps")
    elif sheet.given("warmup_ratio"):
        sheet.carry(ours, ratio, "warmup_ratio")
        sheet.idle("warmup_steps", "it is off")
    else:
        sheet.carry(ours, profile.default_warmup)


def _precision(sheet: Sheet, profile: Profile) -> None:
    brain, half = sheet.read("bf16", bool | str), sheet.read("fp16", bool, False)
    if isinstance(brain, str) and brain != "auto":
        raise ConfigError(f"bf16 must be true, false or auto, got {brain!r}")
    if brain is True:
        sheet.carry("training.precision", "bfloat16", "bf16", note="weights stay in policy.dtype (mixed precision)")
        sheet.idle("fp16", "bf16 is set")
    elif half:
        sheet.carry("training.precision", "float16", "fp16", note="weights stay in policy.dtype (mixed precision)")
        sheet.idle("bf16", "fp16 is set")
    elif brain == "auto":
        sheet.carry("training.precision", "auto", "bf16", note="the faster of float32 and bfloat16")
        sheet.idle("fp16", "it is off")
    elif brain is None and profile.precision == "auto":
        sheet.fix("training.precision", "auto", f"{sheet.tool} uses bfloat16 if the device has it")
        sheet.idle("fp16", "it is off")
    else:
        sheet.carry("training.precision", "float32", "bf16", "fp16")


def _saving(sheet: Sheet, profile: Profile, length: Length) -> None:
    steps, per_epoch = length.steps, length.per_epoch
    log = sheet.read("logging_steps", float, profile.default_log_steps)
    if log >= 1:
        sheet.carry("training.log_steps", int(log), "logging_steps")
    else:
        _share(sheet, "logging_steps", "training.log_steps", log, steps)
    strategy, number = sheet.read("save_strategy", str, "steps"), sheet.read("save_steps", float)
    if strategy == "steps":
        sheet.idle("save_strategy", "checkpoints are always saved by steps")
        if number is not None:
            _every(sheet, "save_steps", "training.save_steps", number, steps)
    elif strategy == "epoch" and per_epoch is not None:
        sheet.carry("training.save_steps", per_epoch, "save_strategy", note="the steps of an epoch")
        sheet.idle("save_steps", "save_strategy is epoch")
    else:
        sheet.leave("save_strategy", "checkpoints are always saved, every training.save_steps, to resume from; "
                    f"the result is saved at the end{'; ' + PAIRS if strategy == 'epoch' else ''}")  # fmt: skip
        sheet.idle("save_steps", f"save_strategy is {strategy}")


def carry_eval_steps(sheet: Sheet, strategy: str, length: Length) -> None:
    """Translate when held-out pairs are evaluated; ``strategy`` is ``steps`` or ``epoch``."""
    ours, number = "training.eval_steps", sheet.read("eval_steps", float)
    if strategy == "epoch":
        sheet.idle("eval_steps", "evaluations are by epochs")
        known = "the steps of an epoch" if length.per_epoch else f"only before and after training; {PAIRS}"
        sheet.fix(ours, length.per_epoch, known)
    elif number is not None:
        _every(sheet, "eval_steps", ours, number, length.steps)
    else:
        sheet.fix(ours, max(1, int(sheet.read("logging_steps", float, 10))), "as often as logging_steps")


def carry_per_epoch(sheet: Sheet, key: str, ours: str, length: Length) -> None:
    """Translate a number of times in each epoch to a number of steps."""
    times, per_epoch = sheet.read(key, float, 0.0), length.per_epoch
    if times <= 0:
        sheet.idle(key, "it is off")
    elif per_epoch is None:
        sheet.leave(key, f"{ours} is a number of steps; {PAIRS}")
    else:
        steps = max(1, math.ceil(per_epoch / times))
        sheet.carry(ours, steps, key, note=f"every {steps} of {per_epoch} steps of an epoch")


def _every(sheet: Sheet, key: str, ours: str, number: float, steps: int | None) -> None:
    if number >= 1:
        sheet.carry(ours, int(number), key)
    else:
        _share(sheet, key, ours, number, steps)


def _share(sheet: Sheet, key: str, ours: str, share: float, steps: int | None) -> None:
    """A share of the steps."""
    if share <= 0:
        sheet.idle(key, "it is off")
    elif steps is None:
        sheet.leave(key, f"it is a share of all steps, and {ours} is a number of steps; {PAIRS}")
    else:
        number = max(1, math.ceil(steps * share))
        sheet.carry(ours, number, key, note=f"{share:g} of {steps} steps")


def _trackers(sheet: Sheet) -> None:
    found = sheet.read("report_to", str | list[str], [])
    names = [found] if isinstance(found, str) else found
    if "all" in names:
        sheet.leave("report_to", "name the trackers in training.report_to")
    else:
        sheet.carry("training.report_to", [name for name in names if name != "none"], "report_to")
