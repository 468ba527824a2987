"""What several tools have under the same names: adapters, data types, sources, objectives."""

from __future__ import annotations

import typing
from typing import Any

from seralign.config.hints import INSTEAD
from seralign.config.training import DataType
from seralign.errors import ConfigError
from seralign.importing.base import Sheet

ONE_TRAINING = "one training, without SeRA's rounds; set 2 or more for them"

LORA_LEFT = {
    "load_in_4bit": INSTEAD["load_in_4bit"],
    "load_in_8bit": INSTEAD["load_in_8bit"],
    "lora_dropout": INSTEAD["lora_dropout"],
    "lora_modules_to_save": "only the adapter is trained; leave policy.lora out to train all weights",
    "lora_target_parameters": "name modules in policy.lora.target_modules",
    "use_dora": "adapters are plain LoRA",
    "use_rslora": "adapters are scaled by alpha / r; set policy.lora.alpha to lora_alpha x sqrt(r)",
}


def carry_dtype(sheet: Sheet, key: str, name: str) -> None:
    """Translate the data type of the weights."""
    if name == "auto":
        sheet.leave(key, "policy.dtype is float32, in which no small updates are lost; set it to use another one")
    elif name in typing.get_args(DataType):
        sheet.carry("policy.dtype", name, key)
    else:
        raise ConfigError(f"{key} must be one of auto, {', '.join(typing.get_args(DataType))}, got {name!r}")


def carry_source(sheet: Sheet, section: str, path: str | list[str], *keys: str, note: str = "") -> None:
    """Translate where rows are from."""
    sheet.carry(f"{section}.path", path, *keys, note=note)


def term(name: str, weight: float, settings: dict[str, Any]) -> dict[str, Any]:
    """A term of an objective as plain values."""
    return {"name": name, "weight": weight} | settings


def carry_objective(sheet: Sheet, terms: list[dict[str, Any]], sources: dict[str, tuple[str, ...]]) -> None:
    """Set the objective to a sum of terms.

    Args:
        sheet: The sheet.
        terms: From ``term``.
        sources: Keys of the other tool that each setting of the terms is from.

    Raises:
        ConfigError: All terms weigh nothing.
    """
    kept = [term for term in terms if term["weight"] != 0.0]
    if not kept:
        raise ConfigError(f"{sources['name'][0]}: all weights are 0, so there is no loss")
    if len(kept) > 1:
        sheet.carry("objective", kept, *dict.fromkeys(key for keys in sources.values() for key in keys))
        return
    for name, value in kept[0].items():
        if name != "weight" or value != 1.0:
            sheet.carry(f"objective.{name}", value, *sources.get(name, ()))
    for key in sources.get("weight", ()):
        sheet.idle(key, "there is one term, of weight 1") if kept[0]["weight"] == 1.0 else None


def carry_kto(sheet: Sheet, name: str, weights: tuple[str, str], beta: float, beta_keys: tuple[str, ...]) -> None:
    """Set the objective to ``kto``; ``name`` is the key that asks for it, ``weights`` those of both weights."""
    keys = ("desirable_weight", "undesirable_weight")
    values = {ours: sheet.read(theirs, float, 1.0) for ours, theirs in zip(keys, weights, strict=True)}
    sources = {ours: (theirs,) for ours, theirs in zip(keys, weights, strict=True)}
    carry_objective(sheet, [term("kto", 1.0, {"beta": beta} | values)], sources | {"name": (name,), "beta": beta_keys})
    sheet.change(name, "the KL term is of the whole step, there of the batch of all devices")
