"""Keys that a run of some kind would not read."""

from __future__ import annotations

from typing import Any

import pytest

from seralign.config import load_config, to_dict
from seralign.config.fields import all_keys
from seralign.config.run import RunConfig
from seralign.config.unread import TABLE, check_read, unread_keys
from seralign.errors import ConfigError

SFT: dict[str, Any] = {"out": "x", "rounds": 1, "policy.model": "m", "objective.name": "sft",
                       "data.demonstrations.path": "d"}  # fmt: skip
REWARD: dict[str, Any] = {"out": "x", "rounds": 1, "policy.model": "m", "objective.name": "reward",
                          "data.pairs.path": "p", "evaluation": {"prompts": 0, "token_pairs": 0}}  # fmt: skip
KINDS = {"sft": (SFT, "supervised training has one"), "reward": (REWARD, "a reward model is trained in one")}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"scoring.ensemble_weight": 0.5}, "scoring.ensemble_weight"),
        ({"scoring": {"length_correction": "offline"}}, "scoring.length_correction"),
        ({"selection.fraction": 0.5}, "selection.fraction"),
        ({"bootstrap.max_new_tokens": 9}, "bootstrap.max_new_tokens"),
        ({"bootstrap.selection.rule": "all"}, "bootstrap.selection.rule"),
        ({"stop.min_gain": 0.1}, "stop.min_gain"),
        ({"stop.patience": 2}, "stop.patience"),
        ({"policy.start": "initial"}, "policy.start"),
    ],
)
def test_keys_of_later_rounds_are_errors_where_there_are_none(kind: str, keys: dict[str, Any], named: str) -> None:
    given, why = KINDS[kind]
    with pytest.raises(ConfigError, match=rf"^{named}: it is for rounds .*, and {why}; remove it$"):
        check_read(load_config(None, given | keys))


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(
    "keys",
    [{}, {"bootstrap": None}, {"stop.metric": "never"}, {"scoring.tokens_per_pack": 99}, {"training.average": 0.5}],
)
def test_defaults_and_what_is_read_pass(kind: str, keys: dict[str, Any]) -> None:
    """A printed configuration has all keys, with what nulls stand for."""
    config = load_config(None, KINDS[kind][0] | keys)
    check_read(config)
    check_read(load_config(None, to_dict(config.resolved())))


def test_rounds_of_pairs_read_all_keys() -> None:
    keys = {
        "selection.fraction": 0.5,
        "training.tokens_per_pack": 9,
        "stop.metric": "win_rate",
        "policy.start": "initial",
    }
    assert not list(unread_keys(load_config(None, {"out": "x", "world": {}} | keys)))


def test_the_table_has_keys_that_exist() -> None:
    assert {key for row in TABLE for key in row.keys} <= set(all_keys(RunConfig))
