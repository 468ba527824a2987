"""Cells that maximise a reward: the reward model that they name, and the reward over their steps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seralign.errors import ConfigError
from seralign.studies.cell_config import cell_config
from seralign.studies.cells import Ask, Setting, plan_study
from seralign.studies.check import check_study
from seralign.studies.config import StudyConfig, study_from
from seralign.studies.figures import CellFigures, RewardStep, WorldFigures
from seralign.studies.reward_curve import curve_plots, curve_table, mean_curve, reward_curve, seed_curves
from seralign.studies.reward_names import models_named, with_reward_models

STUDY: dict[str, Any] = {
    "out": "runs/study",
    "seeds": [3, 4],
    "base": {"rounds": 1, "bootstrap": None},
    "supervised": {"training.max_steps": 5},
    "reward": {"objective.name": "reward", "training.max_steps": 7},
    "worlds": {"A": {"world.noise": 0.2}},
    "methods": {
        "dpo": {"set": {"objective.beta": 0.1}},
        "grpo": {"set": {"rlhf.method": "grpo", "rlhf.reward": "reward_model:study", "rlhf.track": ["scorer"]},
                 "grid": {"rlhf.beta": [0.0, 0.1]}},
        "gold": {"set": {"rlhf.method": "grpo", "rlhf.reward": "scorer"}},
    },
}  # fmt: skip


def study(**more: Any) -> StudyConfig:
    return study_from(STUDY | more)


def test_a_cell_that_names_the_reward_model_has_one_of_its_world_and_seed() -> None:
    cells, _ = plan_study(study())
    by_method = {(next(iter(cell.methods)), cell.seed): cell for cell in cells}
    assert by_method["dpo", 3].rewards == by_method["gold", 3].rewards == ()
    models = {cell.seed: cell.rewards for cell in cells if "grpo" in cell.methods}
    assert set(models) == {3, 4}
    for seed, (model,) in models.items():
        assert model.overrides["objective.name"] == "reward"
        assert (model.overrides["seed"], model.overrides["world.seed"]) == (seed, seed)
        assert (model.overrides["training.max_steps"], model.overrides["rounds"]) == (7, 1)
        assert model.folder(Path("s")) == Path("s") / "rewards" / model.digest
        assert model.of == by_method["dpo", seed].supervised


def test_the_names_of_other_cells_do_not_change_with_a_reward_model() -> None:
    """A study that gains a reward model keeps what it has; cells with another reward model are other cells."""

    def names(**more: Any) -> dict[str, set[str]]:
        cells, _ = plan_study(study(**more))
        return {method: {cell.digest for cell in cells if method in cell.methods} for method in ("dpo", "grpo")}

    longer = STUDY["reward"] | {"training.max_steps": 8}
    without = {name: STUDY["methods"][name] for name in ("dpo", "gold")}
    assert names()["dpo"] == names(reward=longer)["dpo"] == names(reward=None, methods=without)["dpo"]
    assert not names()["grpo"] & names(reward=longer)["grpo"]


def test_keys_that_all_methods_share_are_left_out_where_a_run_does_not_read_them() -> None:
    """The name of the cell is that of all keys: studies that were run keep their cells."""
    shared = STUDY["base"] | {"training.tokens_per_pack": 99, "scoring.ensemble_weight": 0.5}
    cells, _ = plan_study(study(base=shared))
    found = {method: cell for cell in cells for method in cell.methods}
    configs = {method: cell_config(found[method].overrides or {}, Path("x")) for method in ("dpo", "gold")}
    assert [configs[method].training.tokens_per_pack for method in ("dpo", "gold")] == [99, 4096]
    supervised = found["dpo"].supervised
    assert supervised is not None
    assert cell_config(supervised.overrides, Path("x")).scoring.ensemble_weight == 0.3
    assert (found["gold"].overrides or {})["training.tokens_per_pack"] == 99


def test_a_key_that_a_method_itself_does_not_read_is_an_error() -> None:
    methods = {"gold": {"set": STUDY["methods"]["gold"]["set"] | {"training.tokens_per_pack": 99}}}
    with pytest.raises(ConfigError, match=r"^methods\.gold: training\.tokens_per_pack: it packs pairs"):
        check_study(study(methods=STUDY["methods"] | methods))


def test_the_folder_takes_the_place_of_the_name() -> None:
    keys = {"rlhf.reward": "reward_model:study", "rlhf.track": ["scorer", "reward_model:study"], "out": "study",
            "scoring.reward_models": ["study"]}  # fmt: skip
    assert with_reward_models(keys, ["F", "G"]) == {
        "rlhf.reward": "reward_model:F",
        "rlhf.track": ["scorer", "reward_model:F"],
        "out": "study",
        "scoring.reward_models": ["F", "G"],
    }


def cell(*steps: RewardStep) -> CellFigures:
    return CellFigures({}, {}, {}, {}, list(steps))


def test_curves_are_kept_seed_by_seed() -> None:
    def curve(*rewards: float) -> CellFigures:
        return cell(*(RewardStep(5 * at, one, {"gold": 1 - one}, 2.0 * one, 9.0) for at, one in enumerate(rewards)))

    settings = [
        Setting("grpo", "A", {"rlhf.beta": 0.0}, Ask("round-1"), cells={3: "a", 4: "b", 5: "not done"}),
        Setting("dpo", "A", {}, Ask("round-1"), cells={3: "c"}),
    ]
    finished = {"a": curve(0.0, 0.4), "b": curve(0.2, 0.8), "c": CellFigures({}, {}, {}, {})}
    curves = seed_curves(settings, finished)
    assert list(curves) == ["grpo, beta 0.0"]
    assert list(curves["grpo, beta 0.0"]) == ["3", "4"]
    first, last = mean_curve(curves["grpo, beta 0.0"])
    assert (first.step, first.reward, first.tracked["gold"]) == (0, 0.1, 0.9)
    assert (last.step, round(last.reward, 9), round(last.kl or 0, 9)) == (5, 0.6, 1.2)
    world = WorldFigures({}, {}, {}, {}, {}, curves)
    table = curve_table(world, "A")
    assert table is not None
    assert table.rows == (
        ("grpo, beta 0.0", "3", "0.000", "0.400", "0.8", "9.0", "gold", "1.000", "1.000", "0.600", "0"),
        ("grpo, beta 0.0", "4", "0.200", "0.800", "1.6", "9.0", "gold", "0.800", "0.800", "0.200", "0"),
    )
    plots = dict(curve_plots(world, "A"))
    assert list(plots) == ["A-reward.svg", "A-reward-kl.svg", "A-tracked.svg", "A-tracked-kl.svg"]
    # Over the steps, a line for the mean and a faint one for each seed; over KL, the two seeds and an empty line.
    assert plots["A-tracked.svg"].count("<polyline") == plots["A-tracked-kl.svg"].count("<polyline") == 3
    assert plots["A-tracked.svg"].count('stroke-opacity=".45"') == 2
    assert (plots["A-tracked.svg"].count("<circle"), plots["A-tracked-kl.svg"].count("<circle")) == (2, 4)
    assert curve_table(WorldFigures({}, {}, {}, {}), "A") is None


def test_several_tracked_scores_have_a_row_and_a_plot_each() -> None:
    steps = [RewardStep(5 * at, float(at), {"gold": 1.0 - at, "words": 3.0 + at}, None, 9.0) for at in range(2)]
    curves = {"grpo": {"3": steps}, "plain": {"3": [RewardStep(0, 1.0, {}, None, 9.0)]}}
    world = WorldFigures({}, {}, {}, {}, {}, curves)
    table = curve_table(world, "A")
    assert table is not None
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert [(row[0], *row[6:]) for row in table.rows] == [
        ("grpo", "gold", "1.000", "1.000", "0.000", "0"),
        ("grpo", "words", "3.000", "4.000", "4.000", "5"),
        ("plain", *["–"] * 5),
    ]
    # Without a KL, there is no plot over it.
    assert [name for name, _ in curve_plots(world, "A")] == ["A-reward.svg", "A-tracked.svg", "A-tracked-2.svg"]


def test_seeds_with_another_number_of_steps_are_averaged_as_far_as_all_have_them() -> None:
    def curve(count: int) -> list[RewardStep]:
        return [RewardStep(at, float(count), {}, None, 9.0) for at in range(count)]

    assert [(line.step, line.reward) for line in mean_curve({"3": curve(3), "4": curve(2)})] == [(0, 2.5), (1, 2.5)]


def test_an_ensemble_differs_in_its_seeds_and_its_first_model_is_that_of_a_single_one() -> None:
    methods = STUDY["methods"] | {"query": {"set": {"scoring.reward_models": ["study"], "rounds": 2}}}
    single, several = (
        {name: cell for cell in plan_study(study(reward_models=count, methods=methods))[0] for name in cell.methods}
        for count in (1, 3)
    )
    assert several["grpo"].digest == single["grpo"].digest
    assert several["query"].digest != single["query"].digest
    assert [model.overrides["seed"] for model in several["query"].rewards] == [4, 1004, 2004]
    assert {model.overrides["world.seed"] for model in several["query"].rewards} == {4}
    assert several["query"].rewards[:1] == several["grpo"].rewards == single["query"].rewards
    assert len({model.digest for model in several["query"].rewards}) == 3
    assert several["query"].needed == (several["query"].supervised, *several["query"].rewards)


def test_the_best_by_the_reward_model_needs_it_and_no_training() -> None:
    methods = STUDY["methods"] | {"best": {"best_by": "reward_model", "best_of": [2, 8]}}
    cells, settings = plan_study(study(methods=methods))
    found = {name: each for each in cells if each.seed == 3 for name in each.methods}
    assert found["best"].overrides is None
    assert found["best"].rewards == found["grpo"].rewards
    assert found["best"].asks == {Ask("initial", 2), Ask("initial", 8)}
    assert found["supervised"].asks == {Ask("initial")}
    assert found["best"].digest != found["supervised"].digest
    assert [each.label for each in settings if each.method == "best"] == ["best of 2", "best of 8"]


@pytest.mark.parametrize(
    ("method", "more", "named"),
    [
        ({"best_by": "judge", "best_of": [2]}, {}, "methods.m.best_by must be implicit or reward_model, got 'judge'"),
        ({"best_by": "reward_model"}, {}, "methods.m.best_of must be given with best_by: reward_model"),
        ({"best_by": "reward_model", "best_of": [2], "set": {"rounds": 1}}, {}, "methods.m.set must be left out"),
        ({"best_by": "reward_model", "best_of": [2], "grid": {"rounds": [1]}}, {}, "methods.m.grid must be left out"),
        (
            {"best_by": "reward_model", "best_of": [2]},
            {"reward": None},
            "methods.m.best_by must be implicit in a study",
        ),
        ({}, {"reward_models": 0}, "reward_models must be a whole number above 0, got 0"),
    ],
)
def test_what_makes_no_sense_is_refused(method: dict[str, Any], more: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)):
        study_from(STUDY | {"methods": {"dpo": {}, "m": method}} | more)


def test_names_in_keys_ask_for_one_model_or_for_all() -> None:
    assert models_named({"scoring.reward_models": ["study"], "rlhf.reward": "reward_model:study"}, 3) == 3
    assert models_named({"rlhf.track": ["scorer", "reward_model:study"]}, 3) == 1
    assert models_named({"rlhf.reward": "scorer", "out": "study"}, 3) == 0


def test_the_reward_model_of_the_study_has_one_name_for_all_seeds(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    line = {"step": 1, "rlhf/reward": 0.5, "rlhf/length": 3.0, "rlhf/track/reward_model:S/rewards/1": 2.0}
    path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    run: Any = SimpleNamespace(path=lambda *parts: path)
    (found,) = reward_curve(run, "S/rewards/1")
    assert found == RewardStep(1, 0.5, {"reward_model:study": 2.0}, None, 3.0)
