"""Configurations of TRL's other trainers of preferences: ``CPOConfig``, ``ORPOConfig`` and ``KTOConfig`` of TRL 1.16.

Each is read with ``ScriptArguments`` and ``ModelConfig``, as TRL's scripts do.
"""

from __future__ import annotations

from typing import Any

from seralign.errors import ConfigError
from seralign.importing.arguments_keys import EXTRA
from seralign.importing.base import Imported, Options, Sheet
from seralign.importing.parts import carry_kto, carry_objective, term
from seralign.importing.trl_keys import DPO_ALONE, IDLE, LEFT, OF_REFERENCE
from seralign.importing.trl_shared import carry_rest, carry_sync, start_sheet

# Keys and values of loss_type by which the trainer is recognised; ORPO has none of its own.
CPO_KEYS = frozenset({"cpo_alpha", "simpo_gamma", "alpha"})
KTO_KEYS = frozenset({"desirable_weight", "undesirable_weight"})
CPO_LOSSES = frozenset({"simpo", "alphapo"})
KTO_LOSSES = frozenset({"kto", "apo_zero_unpaired"})

_WHOLE_BATCH = "averaged over all tokens of a step, in TRL over those of a batch of one device"
_NO_REFERENCE = {key: why for key, why in LEFT.items() if key not in {*OF_REFERENCE, *DPO_ALONE}}
_IDLE = {key: why for key, why in IDLE.items() if key not in OF_REFERENCE}


def translate_cpo(values: dict[str, Any], options: Options) -> Imported:
    """Translate a configuration for TRL's ``CPOTrainer``: CPO, SimPO, AlphaPO or SLiC.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or has no counterpart.
    """
    sheet = start_sheet(values, "TRL CPO", options)
    _cpo(sheet)
    carry_rest(sheet)
    return sheet.finish(EXTRA, _NO_REFERENCE, _IDLE)


def translate_orpo(values: dict[str, Any], options: Options) -> Imported:
    """Translate a configuration for TRL's ``ORPOTrainer``.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or has no counterpart.
    """
    sheet = start_sheet(values, "TRL ORPO", options)
    weight = sheet.read("beta", float, 0.1)
    sheet.fix("objective.name", "orpo", "the loss of ORPOTrainer")
    note = "the supervised term is of the response, a mean for each; in TRL it is of prompt and response"
    sheet.carry("objective.odds_weight", weight, "beta", note=note)
    carry_rest(sheet)
    return sheet.finish(EXTRA, _NO_REFERENCE, _IDLE)


def translate_kto(values: dict[str, Any], options: Options) -> Imported:
    """Translate a configuration of ``trl kto``.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or has no counterpart.
    """
    sheet = start_sheet(values, "TRL KTO", options)
    loss = sheet.read("loss_type", str, "kto")
    if loss != "kto":
        raise ConfigError(f"loss_type: there is no objective for {loss!r} of single responses; there is one for kto")
    carry_kto(sheet, "loss_type", ("desirable_weight", "undesirable_weight"), sheet.read("beta", float, 0.1), ("beta",))
    sheet.fix("data.convert.pair", "labels", "TRL makes labels of pairs, too")
    carry_sync(sheet)
    carry_rest(sheet)
    return sheet.finish(EXTRA, {key: why for key, why in LEFT.items() if key not in DPO_ALONE}, IDLE)


def _cpo(sheet: Sheet) -> None:
    loss = sheet.read("loss_type", str, "sigmoid")
    beta, nll = sheet.read("beta", float, 0.1), sheet.read("cpo_alpha", float, 1.0)
    gamma, alpha = sheet.read("simpo_gamma", float, 0.5), sheet.read("alpha", float, 0.0)
    sources: dict[str, tuple[str, ...]] = {"name": ("loss_type",), "beta": ("beta",)}
    if loss == "alphapo":
        sheet.idle("cpo_alpha", "loss_type: alphapo sets it to 0")
        nll = 0.0
    supervised = term("sft", nll, {})
    if loss in CPO_LOSSES:
        settings = {"beta": beta, "target_margin": gamma} | ({"alpha": alpha} if alpha else {})
        sources |= {"target_margin": ("simpo_gamma",)} | ({"alpha": ("alpha",)} if alpha else {})
        terms = [term("alpha_po" if alpha else "simpo", 1.0, settings), supervised]
    elif alpha:
        raise ConfigError(f"alpha: there is no objective for it with loss_type: {loss}; there is one with simpo")
    elif loss == "sigmoid":
        terms = [term("cpo", 1.0, {"beta": beta, "nll_weight": 0.0}), supervised]
    elif loss == "hinge":
        terms = [_hinge(beta), supervised]
        sources |= {"target_margin": ("beta",)} | ({"weight": ("beta",)} if beta != 1.0 else {})
    else:
        known = "sigmoid, hinge, simpo, alphapo"
        raise ConfigError(
            f"loss_type: there is no objective for {loss!r} without a reference; there is one for {known}"
        )
    if nll:
        sources["weight"] = (*sources.get("weight", ()), "cpo_alpha")
    elif loss == "sigmoid":
        sources["nll_weight"] = ("cpo_alpha",)
    carry_objective(sheet, terms, sources)
    if loss == "hinge":
        sheet.change("beta", "it is in the hinge there: a target margin of 1 / beta, and beta times the loss")
    if nll:
        sheet.change("cpo_alpha", _WHOLE_BATCH)
    sheet.idle("cpo_alpha", "it is off") if not sheet.has("cpo_alpha") else None
    sheet.idle("alpha", "it is 0") if not alpha else None
    sheet.idle("simpo_gamma", "read only with loss_type: simpo or alphapo") if loss not in CPO_LOSSES else None
    if sheet.read("label_smoothing", float, 0.0) > 0.0:
        sheet.leave("label_smoothing", "give each pair its p in the data; objective.soft_labels: conservative is the "
                    "expected loss")  # fmt: skip
    else:
        sheet.idle("label_smoothing", "it is 0")


def _hinge(beta: float) -> dict[str, Any]:
    if not beta > 0.0:
        raise ConfigError(f"beta must be above 0, got {beta}")
    return term("slic_hf", beta, {"target_margin": 1.0 / beta})
