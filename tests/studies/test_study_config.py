"""Studies as files and options: how keys are laid over each other, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from seralign.config.sections import parse_overrides
from seralign.errors import ConfigError
from seralign.studies.config import dotted, load_study, merged, study_from, to_dict

STUDY: dict[str, Any] = {
    "out": "runs/x",
    "seeds": [0, 1],
    "base": {"training": {"max_steps": 10}, "bootstrap.samples": 4},
    "worlds": {"A": {"world": {"noise": 0.2}}, "plain": None},
    "methods": {"dpo": {"grid": {"objective": {"beta": [0.1, 0.4]}}}, "sera": {"set": {"rounds": 2}}},
}


def write(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | changes), encoding="utf-8")
    return path


def test_overlays_are_dotted_however_they_were_nested(tmp_path: Path) -> None:
    study = load_study(write(tmp_path))

    assert study.base == {"training.max_steps": 10, "bootstrap.samples": 4}
    assert study.worlds == {"A": {"world.noise": 0.2}, "plain": {}}
    assert study.methods["dpo"].grid == {"objective.beta": [0.1, 0.4]}
    assert study_from(to_dict(study)) == study


def test_whole_numbers_are_temperatures_and_an_empty_base_is_none(tmp_path: Path) -> None:
    """A cell is named by its keys: 1 and 1.0 have to be one."""
    study = load_study(write(tmp_path, temperatures=[1, 2], base=None))

    assert [str(each) for each in study.temperatures] == ["1.0", "2.0"]
    assert study.base == {}


def test_a_list_of_grids_is_dotted_and_given_whole(tmp_path: Path) -> None:
    grids = [{"objective": {"beta": [0.1]}, "rounds": [2, 3]}, {"objective.beta": [0.4]}]
    path = write(tmp_path, methods={"dpo": {"grid": grids}})
    study = load_study(path)

    assert study.methods["dpo"].grids == [{"objective.beta": [0.1], "rounds": [2, 3]}, {"objective.beta": [0.4]}]
    assert study_from(to_dict(study)) == study
    replaced = load_study(path, {"methods.dpo.grid": [{"rounds": [1]}]})
    assert replaced.methods["dpo"].grids == [{"rounds": [1]}]
    with pytest.raises(ConfigError, match=r"methods\.dpo\.grid is a list of grids in the file: give the whole list"):
        load_study(path, {"methods.dpo.grid.objective.beta": [0.2]})


def test_options_win_over_the_file(tmp_path: Path) -> None:
    options = ["--seeds", "[3]", "--base.training.max_steps=20", "--methods.dpo.grid.objective.beta", "[0.2]"]
    options += ["--methods.new.set.rounds", "1", "--worlds.B.world.noise", "0.4", "--keep", "true"]
    study = load_study(write(tmp_path), parse_overrides(options))

    assert study.seeds == [3]
    assert study.base == {"training.max_steps": 20, "bootstrap.samples": 4}
    assert study.methods["dpo"].grid == {"objective.beta": [0.2]}
    assert study.methods["sera"].set == {"rounds": 2}
    assert study.methods["new"].set == {"rounds": 1}
    assert study.worlds["B"] == {"world.noise": 0.4}
    assert study.keep


def test_a_key_takes_the_place_of_the_keys_below_it() -> None:
    base = {"bootstrap.samples": 4, "bootstrap.temperature": 1.0, "rounds": 3}

    assert merged(base, {"bootstrap": None}) == {"rounds": 3, "bootstrap": None}
    # What is laid over last stands last: the loader assigns in this order.
    assert list(merged(base, {"bootstrap": None}, {"bootstrap.samples": 8})) == [
        "rounds",
        "bootstrap",
        "bootstrap.samples",
    ]
    assert merged(base, {"boot": 1})["bootstrap.samples"] == 4


def test_empty_mappings_stay_values() -> None:
    assert dotted({"policy": {"lora": {}}, "world": {"own": {"prompts": {"path": "x"}}}}) == {
        "policy.lora": {},
        "world.own.prompts.path": "x",
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": [0]}, "seed: unknown key; did you mean seeds?"),
        ({"methods": {"dpo": {"gird": {}}}}, "methods.dpo.gird: unknown key; did you mean methods.dpo.grid?"),
        (
            {"methods": {"dpo": {"grid": {"rounds": 3}}}},
            "methods.dpo.grid.rounds must be a list of values to try, got 3",
        ),
        (
            {"methods": {"dpo": {"grid": []}}},
            "methods.dpo.grid must be a mapping from keys to values to try, or a list",
        ),
        ({"methods": {"dpo": {"grid": [3]}}}, "methods.dpo.grid[0]: expected a section with keys and values, got 3"),
        (
            {"methods": {"dpo": {"grid": [{"rounds": [1]}, {"rounds": []}]}}},
            "methods.dpo.grid.rounds must be a list of values to try, got []",
        ),
        (
            {"methods": {"dpo": {"until": "x"}}},
            "methods.dpo.until must be the number of a round above 1, got 'x'",
        ),
        (
            {"methods": {"dpo": {"until": 2.5}}},
            "methods.dpo.until must be the number of a round above 1, got 2.5",
        ),
        (
            {"methods": {"dpo": {"until": 2, "best_of": [4]}}},
            "methods.dpo.until must be left out where best_of is given",
        ),
        (
            {"methods": {"dpo": {"until": 1}}},
            "methods.dpo.until must be the number of a round above 1, got 1",
        ),
        (
            {"methods": {"dpo": {"best_of": [1]}}},
            "methods.dpo.best_of must be a list of whole numbers above 1, got [1]",
        ),
        ({"methods": {"dpo": {"worlds": ["Z"]}}}, "methods.dpo.worlds must be among A, plain, got 'Z'"),
        ({"methods": {"dpo": {"worlds": ["A"]}}}, "methods.dpo.worlds must be all worlds, as it is the baseline"),
        ({"methods": {"dpo": 3}}, "methods.dpo: expected a section with keys and values, got 3"),
        ({"methods": {"dpo": {"set": [1]}}}, "methods.dpo.set: expected a section with keys and values, got [1]"),
        ({"methods": {"sera": {}}}, "baseline must be one of the methods, sera, got 'dpo'"),
        ({"ceiling": "gold"}, "ceiling must be one of the methods, dpo, sera, got 'gold'"),
        ({"methods": {"dpo": {}, "supervised": {}}}, "methods must be without supervised"),
        ({"methods": {"dpo": {}, "a.b": {}}}, "methods must be names without dots and slashes, in quotes where"),
        ({"worlds": {False: {}}}, "worlds must be names without dots and slashes, in quotes where YAML"),
        ({"worlds": {"a/b": {}}}, "worlds must be names without dots and slashes"),
        ({"seeds": [0, 0]}, "seeds must be a list of different whole numbers, got [0, 0]"),
        ({"seeds": []}, "seeds must be a list of different whole numbers, got []"),
        ({"seeds": 3}, "seeds must be a list of different whole numbers, got 3"),
        ({"base": {"seed": 3}}, "base must be left without seeds, which are the study's (seeds), got ['seed']"),
        ({"worlds": {"A": {"world": {"seed": 1}}}}, "worlds.A must be left without seeds"),
        ({"methods": {"dpo": {"grid": {"seed": [1, 2]}}}}, "methods.dpo must be left without seeds"),
        ({"temperatures": [0.2]}, "temperatures must be a list of different numbers that begins with 1.0, got [0.2]"),
        ({"temperatures": 1.0}, "temperatures must be a list of different numbers"),
        ({"temperatures": [1.0, "x"]}, "temperatures must be a list of different numbers"),
        ({"temperatures": [1, 1.0]}, "temperatures must be a list of different numbers"),
        ({"temperatures": [1.0, -1.0]}, "temperatures must be greater than 0"),
        ({"worlds": {}}, "worlds must be at least one world"),
    ],
)
def test_mistakes_name_the_file_and_the_key(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    path = write(tmp_path, **changes)

    with pytest.raises(ConfigError) as error:
        load_study(path)
    assert str(error.value).startswith(f"{path}: {told}")


def test_missing_keys_and_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    with pytest.raises(ConfigError, match=r"study\.yaml: no such configuration file"):
        load_study(path)
    path.write_text("out: x\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"study\.yaml: worlds is missing"):
        load_study(path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["seeds", "[0]"], "seeds: expected an option, --key value"),
        (["--seeds"], "seeds: the value is missing"),
        (["--seeds", "[0"], "seeds: not valid YAML: "),
    ],
)
def test_options_that_are_none(arguments: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_overrides(arguments)
    assert str(error.value).startswith(told)


def test_reading_studies_and_their_figures_loads_no_torch() -> None:
    code = "import seralign.studies.config, seralign.studies.results, seralign.studies.page, seralign.cli.lab, sys"
    check = f"{code}; assert not {{'torch', 'transformers', 'datasets'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
