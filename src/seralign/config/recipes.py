"""Recipes: named sets of keys, which keys of the user override. Imports no torch."""

from __future__ import annotations

import copy
from typing import Any, Literal, get_args

from seralign.errors import ConfigError

RecipeName = Literal["sera", "sera_stable", "online_dpo", "spin", "sapo"]

# The recipe whose keys are the defaults of the dataclasses; a test checks this.
DEFAULT: RecipeName = "sera"

RECIPES: dict[str, dict[str, Any]] = {
    # As published (2410.09362): responses are sampled from the last policy, and the share of generated pairs grows.
    "sera": {
        "scoring": {"length_correction": "none"},
        "bootstrap": {"method": "sera", "sample_from": "policy", "shares": [0.3, 0.5, 0.6, 0.7]},
    },
    # The effect of each key is in docs/evidence.md.
    "sera_stable": {
        "scoring": {"length_correction": "offline"},
        "bootstrap": {"method": "sera", "sample_from": "initial", "shares": [0.3]},
    },
    # Rounds on newly sampled pairs alone (docs/self_play.md). There are no held-out pairs to stop by.
    "online_dpo": {
        "bootstrap": {"method": "online", "labels": "judge", "samples": 2, "temperature": 1.0,
                      "selection": {"rule": "all"}},
        "stop": {"metric": "never"},
    },
    # 2401.01335: the reference and the opponent are the previous round's policy; rounds after the first also train on
    # the pairs of the round before.
    "spin": {
        "bootstrap": {"method": "spin", "samples": 1, "temperature": 1.0, "selection": {"rule": "all"}, "replay": 1},
        "reference": {"update": "each_round"},
        "stop": {"metric": "never"},
    },
    # 2405.20830, the settings of the authors' code.
    "sapo": {
        "bootstrap": {"method": "sapo", "sample_from": "average", "decay": 0.5, "samples": 1, "temperature": 0.7,
                      "top_p": 0.95, "max_new_tokens": 256, "selection": {"rule": "all"}, "replay": 1},
        "reference": {"update": "average"},
        "stop": {"metric": "never"},
    },
}  # fmt: skip


def with_recipe(values: dict[str, Any]) -> dict[str, Any]:
    """Nested values with the keys of the recipe that ``recipe`` names; the given values override them.

    Raises:
        ConfigError: there is no recipe of that name.
    """
    values = dict(values)
    return _laid_over(recipe_keys(values.pop("recipe")), values) if "recipe" in values else values


def recipe_keys(name: Any) -> dict[str, Any]:
    """The keys of a recipe, nested.

    Raises:
        ConfigError: there is no recipe of that name.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise ConfigError(f"recipe must be one of {', '.join(get_args(RecipeName))}, got {name!r}")
    return copy.deepcopy(RECIPES[name])


def recipe_name(config: dict[str, Any]) -> str | None:
    """The recipe that a complete configuration (nested, from ``to_dict``) follows, or None.

    Sections that are null are ignored. A key that is absent counts as the value of the paper.
    """
    paper = RECIPES["sera"]
    for name, sections in RECIPES.items():
        there = {key: keys for key, keys in sections.items() if config[key] is not None}
        given = {key: {**paper.get(key, {}), **config[key]} for key in there}
        if _follows(given, there):
            return name
    return None


def _follows(given: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether all wanted keys have their values."""
    return all(
        _follows(given[key], value) if isinstance(value, dict) and isinstance(given[key], dict) else given[key] == value
        for key, value in wanted.items()
    )


def _laid_over(below: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    found = below | values
    for key, part in below.items():
        if isinstance(part, dict) and isinstance(values.get(key), dict):
            found[key] = _laid_over(part, values[key])
    return found
