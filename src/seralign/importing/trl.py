"""Configurations of ``trl dpo``: fields of ``ScriptArguments``, ``DPOConfig`` and ``ModelConfig`` of TRL 1.16."""

from __future__ import annotations

from typing import Any

from seralign.errors import ConfigError
from seralign.importing.arguments_keys import EXTRA
from seralign.importing.base import Imported, Options, Sheet
from seralign.importing.parts import carry_objective, term
from seralign.importing.trl_keys import IDLE, LEFT
from seralign.importing.trl_shared import carry_rest, carry_sync, start_sheet

NAME = "TRL"
# Keys that configurations of the other tools do not have.
OWN_KEYS = frozenset({
    "dataset_name", "dataset_train_split", "dataset_test_split", "loss_type", "loss_weights", "use_peft", "lora_r",
    "beta", "max_length", "model_name_or_path", "precompute_ref_log_probs",
})  # fmt: skip

# loss_type of TRL to our objective, and what is different.
LOSSES: dict[str, tuple[str, str]] = {
    "sigmoid": ("dpo", ""),
    "sigmoid_norm": ("dpo_norm", ""),
    "hinge": ("slic", ""),
    "ipo": ("ipo_norm", "TRL's ipo is ours normalised by length; objective.name: ipo is the paper's, with sums"),
    "exo_pair": ("exo", ""),
    "nca_pair": ("nca", ""),
    "robust": ("robust", ""),
    "bco_pair": ("bco", "bco has the paper's running shift of the rewards, which TRL's bco_pair lacks"),
    "sppo_hard": ("sppo", ""),
    "aot": ("aot", "pairs are sorted over the whole step, in TRL over the batch of each device"),
    "aot_unpaired": ("aot_unpaired", "pairs are sorted over the whole step, in TRL over the batch of each device"),
    "apo_zero": ("apo_zero", ""),
    "apo_down": ("apo_down", ""),
    "discopop": ("discopop", ""),
    "sft": ("sft", ""),
}
DIVERGENCES = {"forward_kl": "forward_kl", "js_divergence": "js", "alpha_divergence": "alpha"}


def translate(values: dict[str, Any], options: Options) -> Imported:
    """Translate a configuration of ``trl dpo``.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or has no counterpart.
    """
    sheet = start_sheet(values, NAME, options)
    _objective(sheet)
    carry_sync(sheet)
    carry_rest(sheet)
    return sheet.finish(EXTRA, LEFT, IDLE)


def _objective(sheet: Sheet) -> None:
    losses = sheet.read("loss_type", str | list[str], ["sigmoid"])
    losses = [losses] if isinstance(losses, str) else losses
    weights = sheet.read("loss_weights", list[float]) or [1.0] * len(losses)
    if not losses:
        raise ConfigError("loss_type must be a loss, or a list of at least one, got []")
    if len(weights) != len(losses):
        raise ConfigError(f"loss_weights must be as many as loss_type has ({len(losses)}), got {len(weights)}")
    beta, smoothing = sheet.read("beta", float, 0.1), sheet.read("label_smoothing", float, 0.0)
    tau, nll = sheet.read("discopop_tau", float, 0.05), sheet.read("rpo_alpha", float)
    terms, notes, used = [], [], {"beta": False, "label_smoothing": False, "discopop_tau": False}
    for loss, weight in zip(losses, weights, strict=True):
        if loss not in LOSSES:
            raise ConfigError(f"loss_type: there is no objective for {loss!r}; there is one for {', '.join(LOSSES)}")
        ours, note = LOSSES[loss]
        settings: dict[str, float | str] = {} if ours == "sft" else {"beta": beta}
        used["beta"] |= ours != "sft"
        if loss == "robust" and smoothing == 0.0:
            ours, note, used["label_smoothing"] = "dpo", "robust with label_smoothing 0 is dpo", True
        elif loss == "exo_pair" and smoothing == 0.0:
            raise ConfigError("label_smoothing must be above 0 with loss_type: exo_pair (1e-3 in the paper), got 0.0")
        elif loss in ("robust", "exo_pair"):
            settings["label_smoothing"] = smoothing
            used["label_smoothing"] = True
        if loss == "discopop":
            settings["tau"], used["discopop_tau"] = tau, True
        notes += [note] if note else []
        terms.append(term(ours, weight, settings))
    sources = {"name": ("loss_type",), "weight": ("loss_weights",), "tau": ("discopop_tau",)}
    sources |= {"beta": ("beta",), "label_smoothing": ("label_smoothing",)}
    sources = {setting: keys for setting, keys in sources.items() if used.get(keys[0], True)}
    modified = _modified(sheet, losses, terms)
    sources |= modified | {"name": (*sources["name"], *modified.get("name", ()))}
    if nll:
        terms.append(term("nll", nll, {}))
        sources["weight"] = (*sources["weight"], "rpo_alpha")
    carry_objective(sheet, terms, sources)
    if used["label_smoothing"] and terms[0]["name"] == "dpo":
        sheet.idle("label_smoothing", "it is 0")
    for note in dict.fromkeys(notes):
        sheet.change("loss_type", note)
    for key, is_used in used.items():
        if not is_used:
            _unused(sheet, key, losses)


def _unused(sheet: Sheet, key: str, losses: list[str]) -> None:
    named = ", ".join(losses)
    if key == "label_smoothing" and sheet.read(key, float, 0.0) > 0.0:
        sheet.leave(key, f"TRL does not read it with {named}; for the conservative loss, set objective.name: cdpo and "
                    "objective.label_smoothing")  # fmt: skip
    else:
        sheet.idle(key, f"it is not read with {named}")


def _modified(sheet: Sheet, losses: list[str], terms: list[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Options that turn ``sigmoid`` into another objective; returns the keys that its settings are from."""
    cut, weighting = sheet.read("ld_alpha", float), sheet.read("use_weighting", bool, False)
    divergence = sheet.read("f_divergence_type", str, "reverse_kl")
    exponent = sheet.read("f_alpha_divergence_coef", float, 0.5)
    if divergence != "reverse_kl" and divergence not in DIVERGENCES:
        allowed = ", ".join(("reverse_kl", *DIVERGENCES))
        raise ConfigError(f"f_divergence_type must be one of {allowed}, got {divergence!r}")
    wanted = {"ld_alpha": cut not in (None, 1.0), "f_divergence_type": divergence != "reverse_kl",
              "use_weighting": weighting}  # fmt: skip
    asked, coefficient = [key for key, is_wanted in wanted.items() if is_wanted], "f_alpha_divergence_coef"
    alone = losses == ["sigmoid"] and len(asked) == 1
    for key in wanted:
        if key not in asked:
            sheet.idle(key, "it is off")
        elif not alone:
            sheet.leave(key, "there is an objective for it with loss_type: sigmoid alone, and without "
                        f"{' or '.join(other for other in wanted if other != key)}")  # fmt: skip
    if not alone or divergence != "alpha_divergence":
        sheet.idle(coefficient, "read only with f_divergence_type: alpha_divergence")
    if not alone:
        return {}
    if asked == ["ld_alpha"]:
        terms[0] |= {"name": "ld_dpo", "alpha": cut}
        return {"alpha": ("ld_alpha",)}
    if asked == ["use_weighting"]:
        terms[0] |= {"name": "wpo"}
        return {"name": ("use_weighting",)}
    terms[0] |= {"name": "f_dpo", "divergence": DIVERGENCES[divergence]}
    sources = {"divergence": ("f_divergence_type",)}
    if divergence == "alpha_divergence":
        terms[0] |= {"alpha": round(1.0 - exponent, 12)}
        sources["alpha"] = (coefficient,)
        sheet.carry("objective.alpha", terms[0]["alpha"], coefficient, note="1 - the coefficient")
    return sources
