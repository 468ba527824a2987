"""From a study to cells and settings: what is run once, what is compared, and what a name depends on."""

from __future__ import annotations

from typing import Any

import pytest

from seralign.errors import ConfigError
from seralign.studies import cells
from seralign.studies.cells import Ask, Cell, Setting, plan_study, world_digest
from seralign.studies.check import check_study
from seralign.studies.config import MethodConfig, StudyConfig


def study(**changes: Any) -> StudyConfig:
    settings: dict[str, Any] = {
        "out": "x",
        "worlds": {"A": {"world.noise": 0.2}, "B": {"world.noise": 0.4}},
        "methods": {
            "dpo": MethodConfig(set={"rounds": 1}, grid={"objective.beta": [0.1, 0.4]}),
            "sera": MethodConfig(set={"rounds": 3}, worlds=["A"]),
            "best": MethodConfig(set={"rounds": 1, "objective.beta": 0.1}, best_of=[2, 4]),
        },
        "seeds": [0, 1],
        "base": {"training.max_steps": 10},
        "supervised": {"world.noise": 0.0, "training.max_steps": 20},
    }
    return StudyConfig(**settings | changes)


def of(cells: list[Cell], world: str, seed: int, method: str) -> list[Cell]:
    return [cell for cell in cells if (cell.world, cell.seed) == (world, seed) and method in cell.methods]


def test_settings_that_need_the_same_run_share_its_cell() -> None:
    cells, settings = plan_study(study())

    # In each world and seed: supervised, two betas; in A, sera too. The best of 2 and of 4 are measured on beta .1.
    assert len(cells) == 2 * (3 + 1) + 2 * 3
    (shared,) = of(cells, "A", 0, "best")
    assert shared.methods == {"dpo", "best"}
    assert shared.asks == {Ask("round-1"), Ask("round-1", 2), Ask("round-1", 4)}
    assert [setting.label for setting in settings if setting.method == "best" and setting.world == "B"] == [
        "best of 2",
        "best of 4",
    ]


def test_a_list_of_grids_is_the_settings_of_each_of_them_once() -> None:
    grids = [{"objective.beta": [0.1, 0.4], "rounds": [1]}, {"objective.beta": [0.4], "rounds": [1, 2]}]
    planned = study(methods={"dpo": MethodConfig(grid=grids)})
    _, settings = plan_study(planned)

    labels = [each.label for each in settings if (each.method, each.world) == ("dpo", "A") and each.compared]
    assert labels == ["beta 0.1, rounds 1", "beta 0.4, rounds 1", "beta 0.4, rounds 2, round 2"]
    wrong = study(methods={"dpo": MethodConfig(grid=[grids[0], {"objective.beta": [0.4, -1.0]}])})
    with pytest.raises(ConfigError, match=r"methods\.dpo: objective\.beta"):
        check_study(wrong)


def test_a_cell_is_named_by_its_recipe_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that grows would else go on by other defaults where they have changed."""
    (before,) = of(plan_study(study())[0], "A", 0, "sera")
    assert before.overrides is not None
    assert before.overrides["recipe"] == "sera"
    named = study(methods={"dpo": MethodConfig(), "sera": MethodConfig(set={"rounds": 3, "recipe": "sera"})})
    assert of(plan_study(named)[0], "A", 0, "sera")[0].digest == before.digest
    monkeypatch.setattr(cells, "DEFAULT", "sera_stable")
    assert of(plan_study(study())[0], "A", 0, "sera")[0].digest != before.digest


def test_a_setting_has_a_cell_in_every_seed() -> None:
    cells, settings = plan_study(study())
    chosen: Setting = next(each for each in settings if each.label == "beta 0.4" and each.world == "B")

    assert chosen.cells.keys() == {0, 1}
    (cell,) = (cell for cell in of(cells, "B", 1, "dpo") if cell.overrides and cell.overrides["objective.beta"] == 0.4)
    assert cell.digest == chosen.cells[1]
    assert cell.overrides is not None
    assert (cell.overrides["world.seed"], cell.overrides["seed"]) == (1, 1)
    assert cell.overrides["world.noise"] == 0.4


def test_rounds_after_the_first_compete_and_the_first_is_looked_at() -> None:
    _, settings = plan_study(study())

    found = [(each.ask.policy, each.compared, each.label) for each in settings if each.method == "sera"]
    assert found == [("round-1", False, "–"), ("round-2", True, "round 2"), ("round-3", True, "round 3")]


def test_rounds_after_the_last_that_competes_are_looked_at() -> None:
    _, settings = plan_study(study(methods={"dpo": MethodConfig(), "long": MethodConfig(set={"rounds": 4}, until=3)}))

    found = {each.ask.policy: each.compared for each in settings if each.method == "long"}
    assert found == {"round-1": False, "round-2": True, "round-3": True, "round-4": False}


def test_a_run_that_may_stop_is_measured_by_its_result() -> None:
    stops = MethodConfig(set={"rounds": 3, "stop.metric": "margin_accuracy", "data.heldout_fraction": 0.1})
    cells, settings = plan_study(study(methods={"dpo": MethodConfig(), "stops": stops}))

    assert [each.ask for each in settings if each.method == "stops" and each.world == "A"] == [Ask("result")]
    (cell,) = of(cells, "A", 0, "stops")
    assert cell.overrides is not None
    assert cell.overrides["data.heldout_fraction"] == 0.1


def test_an_empty_rule_to_stop_by_is_the_default_one() -> None:
    _, settings = plan_study(study(methods={"dpo": MethodConfig(set={"stop": {}, "rounds": 2})}))

    assert {each.ask for each in settings if each.method == "dpo"} == {Ask("result")}


def test_a_supervised_policy_is_trained_without_a_review_of_pairs() -> None:
    plain, reviewed = study(), study(base={"training.max_steps": 10, "crossfit": {}})

    check_study(reviewed)
    assert plan_study(reviewed)[0][0].supervised == plan_study(plain)[0][0].supervised


def test_one_supervised_policy_where_its_keys_are_the_same() -> None:
    cells, _ = plan_study(study())
    by_seed = {
        seed: {cell.supervised.digest for cell in cells if cell.seed == seed and cell.supervised} for seed in (0, 1)
    }

    # The supervised keys pin the noise, so both worlds ask for the same policy.
    assert len(by_seed[0]) == len(by_seed[1]) == 1
    assert by_seed[0] != by_seed[1]
    supervised = cells[0].supervised
    assert supervised is not None
    assert supervised.overrides["objective"] == {"name": "sft"}
    assert supervised.overrides["rounds"] == 1
    alone, _ = plan_study(study(supervised=None))
    assert {cell.supervised for cell in alone} == {None}


def test_a_study_that_grows_keeps_its_cells() -> None:
    before = {cell.digest for cell in plan_study(study())[0]}
    grown = study(seeds=[0, 1, 2], methods={**study().methods, "ipo": MethodConfig(set={"objective.name": "ipo"})})

    assert before < {cell.digest for cell in plan_study(grown)[0]}
    for changes in ({"base": {"training.max_steps": 11}}, {"temperatures": [1.0]}, {"supervised": {}}):
        assert not before & {cell.digest for cell in plan_study(study(**changes))[0]}


def test_a_world_is_named_by_what_it_depends_on() -> None:
    keys = {
        "world.noise": 0.2,
        "world.seed": 1,
        "data.max_length": 64,
        "policy.model": "m",
        "scoring.dtype": "bfloat16",
    }

    assert world_digest(keys) == world_digest(keys | {"training.max_steps": 5, "policy.start": "initial", "seed": 3})
    for key in keys:
        assert world_digest(keys) != world_digest(keys | {key: 0.3})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"methods": {"dpo": MethodConfig(set={"training.max_stepz": 3})}},
            "worlds.A, methods.dpo: training.max_stepz",
        ),
        (
            {"methods": {"dpo": MethodConfig(grid={"objective.beta": [0.1, -1.0]})}},
            "worlds.A, methods.dpo: objective.beta must be greater than 0, got -1.0",
        ),
        ({"worlds": {"A": {}, "B": {"world.noize": 1}}}, "worlds.B: world.noize"),
        ({"supervised": {"training.max_steps": 0}}, "worlds.A, supervised: training.max_steps must be"),
        ({"base": {"sft.max_steps": 3}}, "worlds.A: a cell has a world, and its supervised policy"),
        (
            {"base": {"policy.adapter": "a"}, "methods": {"dpo": MethodConfig(set={"policy.lora": {"r": 2}})}},
            "worlds.A, methods.dpo: policy.adapter with policy.lora: a study merges no adapter",
        ),
    ],
)
def test_keys_are_judged_before_anything_is_run(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_study(study(**changes))
    assert str(error.value).startswith(told)


def test_a_good_study_passes() -> None:
    check_study(study())


@pytest.mark.parametrize(
    "keys",
    [{"rounds": 1}, {"rounds": 3}, {"rounds": 4, "stop.metric": "margin_accuracy", "data.heldout_fraction": 0.1}],
)
def test_a_last_round_that_has_no_effect_is_a_mistake(keys: dict[str, Any]) -> None:
    methods = {"dpo": MethodConfig(), "long": MethodConfig(set=keys, until=3)}
    with pytest.raises(ConfigError, match=r"methods\.long\.until is "):
        check_study(study(methods=methods))
