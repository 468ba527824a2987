"""Recipes: named sets of keys, which keys of the user override. Imports no torch."""

from __future__ import annotations

import copy
from typing import Any, Literal, get_args

from seralign.errors import ConfigError

RecipeName = Literal["sera", "sera_stable"]

# The recipe whose keys are the defaults of the dataclasses; a test checks this.
DEFAULT: RecipeName = "sera"

RECIPES: dict[str, dict[str, Any]] = {
    # As published (2410.09362): responses are sampled from the last policy, and the share of generated pairs grows.
    "sera": {
        "scoring": {"length_correction": "none"},
        "bootstrap": {"sample_from": "policy", "shares": [0.3, 0.5, 0.6, 0.7]},
    },
    # The effect of each key is in docs/evidence.md.
    "sera_stable": {
        "scoring": {"length_correction": "offline"},
        "bootstrap": {"sample_from": "initial", "shares": [0.3]},
    },
}


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
        given = {key: {**paper[key], **config[key]} for key in there}
        if all(given[section][key] == value for section, keys in there.items() for key, value in keys.items()):
            return name
    return None


def _laid_over(below: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    found = below | values
    for key, part in below.items():
        if isinstance(part, dict) and isinstance(values.get(key), dict):
            found[key] = _laid_over(part, values[key])
    return found
