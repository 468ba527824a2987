"""The section ``objective``: one objective with its settings, or a list of objectives with weights."""

from __future__ import annotations

import dataclasses
from typing import Any, cast, get_args

from seralign.checks import require
from seralign.config.fields import keys_below
from seralign.config.hints import unknown_key
from seralign.config.values import build, shown, typed
from seralign.errors import ConfigError
from seralign.objectives import OBJECTIVES, Objective, ObjectiveSum, Term, sum_name
from seralign.objectives.base import NEEDS, HeadName, head_of
from seralign.plugins import load_plugin, plugin_errors
from seralign.records import FORMS

KEY = "objective"
DEFAULT = "dpo"
# Objectives that a message can name one by one.
_FEW = 4
_SUM = "a list adds objectives: [{name: dpo}, {name: sft, weight: 0.2}]"


def read_objective(values: Any) -> ObjectiveSum:
    """Read the objective of a training from plain values: a mapping, or a list of mappings.

    Each mapping has ``name`` (one of ``seralign.objectives.OBJECTIVES``, or ``module:Class`` of your own), ``weight``,
    and the settings of the objective.

    Raises:
        ConfigError: a name or key is unknown, or a value is not allowed; names the whole key.
    """
    if isinstance(values, list):
        if not values:
            raise ConfigError(f"{KEY}: expected a section with keys and values, or a list of sections, got []")
        terms = tuple(_term(one, f"{KEY}[{place}]") for place, one in enumerate(values))
        for place, term in enumerate(terms):
            if head_of(term.objective) != head_of(terms[0].objective):
                raise ConfigError(
                    f"{KEY}[{place}].name: {term.name} and {terms[0].name} cannot be added: a reward model has no "
                    "output layer of a language model; train one of them"
                )
        return ObjectiveSum(terms)
    return ObjectiveSum((_term(values, KEY),))


def plain(objective: ObjectiveSum) -> dict[str, Any] | list[dict[str, Any]]:
    """Plain values that ``read_objective`` reads back as an equal objective."""
    terms = [
        {"name": term.name, "weight": term.weight} | dataclasses.asdict(term.objective)  # pyright: ignore
        for term in objective.terms
    ]
    return terms[0] if len(terms) == 1 else terms


def described(values: dict[str, Any] | list[dict[str, Any]]) -> str:
    """The plain values of an objective as text, with all settings: ``dpo, beta 0.1``."""
    terms = values if isinstance(values, list) else [values]
    words = []
    for term in terms:
        settings = [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                    for key, value in term.items() if key not in ("name", "weight")]  # fmt: skip
        weight = [] if len(terms) == 1 else [f"weight {term['weight']:g}"]
        words.append(", ".join([term["name"], *settings, *weight]))
    return " + ".join(words)


def plain_name(values: dict[str, Any] | list[dict[str, Any]]) -> str:
    """The name of an objective, from its plain values."""
    terms = values if isinstance(values, list) else [values]
    return sum_name([(term["name"], term["weight"]) for term in terms])


def _term(values: Any, key: str) -> Term:
    if not isinstance(values, dict):
        meant = f"; did you mean {KEY}.name?" if isinstance(values, str) else ""
        meant = f"; {_SUM}" if key != KEY else meant
        raise ConfigError(f"{key}: expected a section with keys and values, got {shown(values)}{meant}")
    settings = dict(values)
    name = typed(str, settings.pop("name", DEFAULT), f"{key}.name")
    weight = typed(float, settings.pop("weight", 1.0), f"{key}.weight")
    require(0.0 < weight <= 1e6, f"{key}.weight", "a number above 0 and at most 1e6", weight)
    kind = _class(name, key)
    own = keys_below(kind)
    for unknown in (found for found in settings if found not in own):
        if unknown in OBJECTIVES:
            raise ConfigError(f"{key}.{unknown}: unknown key; {_SUM}")
        if unknown in keys_below(ObjectiveSum):
            has = f"; its settings are {', '.join(own)}" if own else ", which has no settings"
            owners = [other for other, kind in OBJECTIVES.items() if unknown in keys_below(kind)]
            other = f", or give one that has it ({', '.join(owners)})" if len(owners) <= _FEW else ""
            raise ConfigError(f"{key}.{unknown} is not a setting of {name}{has}; remove it{other}")
        raise ConfigError(unknown_key(f"{KEY}.{unknown}").replace(f"{KEY}.", f"{key}.", 1))
    if name in OBJECTIVES:
        return Term(name, build(kind, settings, key), weight)
    with plugin_errors(f"{key}.name", name):
        objective = build(kind, settings, key)
        _check_values(objective, key)
    return Term(name, objective, weight)


def _check_values(objective: Any, key: str) -> None:
    """Refuse an objective that cannot be stored with the configuration, or whose rewards would have no scale."""
    for field in dataclasses.fields(objective):
        typed(Any, getattr(objective, field.name), f"{key}.{field.name}")
    beta = objective.beta
    is_number = isinstance(beta, int | float) and not isinstance(beta, bool)
    require(is_number and 0 < beta <= 1e6, f"{key}.beta", "a number above 0 and at most 1e6", beta)


def _class(name: str, key: str) -> type[Objective]:
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    if ":" not in name:
        raise ConfigError(
            f"{key}.name must be one of {', '.join(OBJECTIVES)}, or module:Class for a class of your own, got {name!r}"
        )
    kind: Any = load_plugin(name, f"{key}.name", "class")
    needed = ("beta", "forms", "reads", "uses_reference", "unit", "reward", "loss")
    fields = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    missing = [what for what in needed if not hasattr(kind, what) and what not in fields]
    if not dataclasses.is_dataclass(kind) or not isinstance(kind, type) or missing:
        lacking = f"; missing: {', '.join(missing)}" if missing else ""
        raise ConfigError(f"{key}.name: {name!r} must be a dataclass with the members of Objective{lacking}")
    forms, reads, uses, unit = (getattr(kind, what) for what in ("forms", "reads", "uses_reference", "unit"))
    allowed: dict[str, tuple[bool, str]] = {
        "forms": (
            isinstance(forms, frozenset | set) and bool(forms) and forms <= set(FORMS),
            f"a frozenset of {', '.join(FORMS)}",
        ),
        "reads": (reads in ("all", "first"), "'all' or 'first'"),
        "uses_reference": (isinstance(uses, bool), "True or False"),
        "unit": (unit in ("example", "token"), "'example' or 'token'"),
    }
    needs, state = getattr(kind, "needs", frozenset()), getattr(kind, "initial_state", ())
    allowed |= {
        "needs": (isinstance(needs, frozenset | set) and needs <= set(NEEDS), f"a frozenset of {', '.join(NEEDS)}"),
        "hard_labels": (isinstance(getattr(kind, "hard_labels", False), bool), "True or False"),
        "head": (head_of(cast(Any, kind)) in get_args(HeadName), f"one of {', '.join(get_args(HeadName))}"),
        "initial_state": (
            isinstance(state, tuple) and all(isinstance(number, int | float) for number in state),
            "a tuple of numbers",
        ),
    }
    for what, (is_right, rule) in allowed.items():
        if not is_right:
            raise ConfigError(f"{key}.name: {name}.{what} must be {rule}, got {getattr(kind, what, None)!r}")
    if "state" in needs and not (state and hasattr(kind, "next_state")):
        raise ConfigError(f"{key}.name: {name}.needs has state, so it must have initial_state and next_state")
    for taken in {"name", "weight"}.intersection(fields):
        raise ConfigError(f"{key}.name: {name} has a field {taken}, which is a key of {key} itself; rename the field")
    return cast(type[Objective], kind)
