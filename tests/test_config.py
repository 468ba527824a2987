"""Reading configurations: files, overrides, and what is said to mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seralign.config import config_parser, load_config, parse_config, to_dict, to_yaml
from seralign.config.recipes import DEFAULT, recipe_name
from seralign.errors import ConfigError
from seralign.objectives import OBJECTIVES

WORLD: dict[str, Any] = {"out": "runs/x", "world": {}}


def test_a_configuration_survives_yaml(tmp_path: Path) -> None:
    config = load_config(None, WORLD | {"sft.batch_size": 4, "policy.lora.r": 3, "bootstrap.shares": [0.1, 0.2]})
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(config))
    assert load_config(file) == config
    assert load_config(None, to_dict(config)) == config


def test_flags_win_over_the_file_and_leave_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("out: x\nworld: {noise: 0.1, seed: 3}\nsft: {max_steps: 10, batch_size: 4}\n")
    parser = config_parser(prog="seralign train")
    config, rest = parse_config(parser, [str(file), "--sft.max_steps", "5", "--world.noise=0.3", "--bootstrap", "null"])
    assert config.sft is not None
    assert config.world is not None
    assert (config.sft.max_steps, config.sft.batch_size) == (5, 4)
    assert (config.world.noise, config.world.seed) == (0.3, 3)
    assert config.bootstrap is None
    assert rest == {}


def test_the_default_recipe_is_what_the_defaults_are() -> None:
    assert load_config(None, {**WORLD, "recipe": DEFAULT}) == load_config(None, WORLD)


def test_the_paper_has_a_recipe() -> None:
    config = load_config(None, {**WORLD, "recipe": "sera"})
    assert (config.scoring.length_correction, config.scoring.ensemble_weight) == ("none", 0.3)
    assert config.bootstrap is not None
    assert (config.bootstrap.sample_from, config.bootstrap.shares) == ("policy", [0.3, 0.5, 0.6, 0.7])
    assert (config.selection.rule, config.selection.fraction, config.policy.start) == ("top", 0.7, "previous")


def test_a_configuration_tells_its_recipe() -> None:
    for name in ("sera", "sera_stable"):
        assert recipe_name(to_dict(load_config(None, {**WORLD, "recipe": name}))) == name
        assert recipe_name(to_dict(load_config(None, {**WORLD, "recipe": name, "bootstrap": None}))) == name
    mixed = to_dict(load_config(None, {**WORLD, "recipe": "sera", "scoring.length_correction": "matched"}))
    assert recipe_name(mixed) is None
    del mixed["scoring"]["length_correction"], mixed["bootstrap"]["sample_from"]
    assert recipe_name(mixed) == "sera"


def test_keys_that_are_given_win_over_those_of_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("{recipe: sera_stable, out: r, world: {}, bootstrap: {samples: 8, shares: [0.5]}}", "utf-8")

    for config in (load_config(file), parse_config(config_parser(prog="seralign"), [str(file)])[0]):
        assert config.scoring.length_correction == "offline"
        assert config.bootstrap is not None
        assert (config.bootstrap.samples, config.bootstrap.sample_from) == (8, "initial")
        assert config.bootstrap.shares == [0.5]
    flags = ["--scoring.length_correction", "none", "--bootstrap", "null"]
    config, _ = parse_config(config_parser(prog="seralign"), [str(file), *flags])
    assert (config.scoring.length_correction, config.bootstrap) == ("none", None)
    assert load_config(file, {"scoring.length_correction": "none"}).scoring.length_correction == "none"


def test_a_flag_names_the_recipe_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("{recipe: sera_stable, out: r, world: {}}", encoding="utf-8")

    config, _ = parse_config(config_parser(prog="seralign"), [str(file), "--recipe", "sera"])
    assert config == load_config(file, {"recipe": "sera"})
    assert config.scoring.length_correction == "none"
    config, _ = parse_config(
        config_parser(prog="seralign"), ["--recipe=sera_stable", "--out", "r", "--world.noise", "0.2"]
    )
    assert config.scoring.length_correction == "offline"


def test_a_section_that_is_opened_again_has_the_recipes_keys(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("{recipe: sera, out: r, world: {}, bootstrap: null}", encoding="utf-8")

    config, _ = parse_config(config_parser(prog="seralign"), [str(file), "--bootstrap.samples", "6"])
    assert config == load_config(file, {"bootstrap.samples": 6})
    assert config.bootstrap is not None
    assert (config.bootstrap.samples, config.bootstrap.sample_from) == (6, "policy")


def test_a_configuration_is_printed_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("{recipe: sera, out: r, world: {}}", encoding="utf-8")

    with pytest.raises(SystemExit, match="0"):
        parse_config(config_parser(prog="seralign"), [str(file), "--rounds", "5", "--print_config"])
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_config(printed) == load_config(file, {"rounds": 5})


@pytest.mark.parametrize("arguments", [["--recipe"], ["--config"], ["--recipe", "dpo", "--out", "x"]])
def test_a_flag_without_its_value_is_told(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"recipe|config"):
        parse_config(config_parser(prog="seralign"), arguments)


def test_overrides_are_not_changed() -> None:
    overrides = {**WORLD, "evaluation": {"prompts": 4}}
    load_config(None, {**overrides, "evaluation.prompts": 0})
    assert overrides["evaluation"] == {"prompts": 4}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sft: {batch_sze: 3}", "sft.batch_sze: unknown key; did you mean sft.batch_size?"),
        ("selection: {keep: 0.5}", "selection.keep: unknown key; did you mean selection.fraction?"),
        ("recipe: dpo", "recipe must be one of sera, sera_stable, online_dpo, spin, sapo, got 'dpo'"),
        ("scoring: null", "scoring: expected a section with keys and values, got null"),
        ("recipe: {}", "recipe must be one of sera, sera_stable, online_dpo, spin, sapo, got {}"),
        ("objective: dpo", "objective: expected a section with keys and values, got 'dpo'; did you mean objective"),
        (
            "scoring: {length_correction: true}",
            "scoring.length_correction must be one of none, offline, within_prompt, balanced, matched, got true",
        ),
        ("scoring: {length_band: 0.1}", "scoring.length_band is for length_correction: matched, which is 'none'"),
        (
            "scoring: {length_correction: matched, length_band: 1.0}",
            "scoring.length_band must be in [0, 1), got 1.0",
        ),
        ("rounds: [1]", "rounds must be a whole number, got [1]"),
        ("sft: {batch_size: x}", "sft.batch_size must be a whole number, got 'x'"),
        (
            "objective: {name: dpoo}",
            f"objective.name must be one of {', '.join(OBJECTIVES)}, or module:Class",
        ),
        (
            "objective: [dpo, sft]",
            "objective[0]: expected a section with keys and values, got 'dpo'; a list adds objectives: [{",
        ),
        ("objective: {dpo: 1.0, sft: 0.2}", "objective.dpo: unknown key; a list adds objectives: [{name: dpo}"),
        ("objective: {name: dpo, rpo_alpha: 1.0}", "objective.rpo_alpha: unknown key; a list adds objectives: [{name"),
        ("policy: {lora: {r: 1000000}}", "policy.lora.r must be between 1 and 8192, got 1000000"),
        (
            "policy: {lora: {target_modules: 'q_proj,v_proj'}}",
            "policy.lora.target_modules: 'q_proj,v_proj' is one text; give a list: [q_proj, v_proj]",
        ),
        ("objective: {beta: -1}", "objective.beta must be greater than 0, got -1.0"),
        ("objective: {name: sft, beta: 1}\nrounds: 1", "objective.beta is not a setting of sft"),
        ("objective: {name: sft}", "objective.name: sft has no margin to select pairs by"),
        ("reference: {adapter: a}", "reference.adapter needs model"),
        ("training: {epochs: 1, max_steps: 2}", "training.epochs and max_steps exclude each other"),
        ("selection: {rule: threshold}", "selection.threshold and rule: threshold must be set together"),
        ("bootstrap: {selection: {fraction: 0}}", "bootstrap.selection.fraction must be in (0, 1], got 0.0"),
        (
            "bootstrap: {selection: {rule: top_within_prompt}}",
            "bootstrap.selection.rule: top_within_prompt needs several pairs a prompt, and a prompt gives at most one",
        ),
        ("bootstrap: {samples: 1}", "bootstrap.samples must be at least 2"),
        ("evaluation: {scorer: length}", "evaluation.scorer must be of the form module:function"),
        ("data: {demonstrations: {path: d.jsonl}}", "data.demonstrations are for sft"),
        ("data: {max_length: 10, max_prompt_length: 10}", "data.max_prompt_length must be between 1 and"),
        ("policy: {dtype: bfloat16}\ntraining: {precision: float16}", "training.precision: float16 scales gradients"),
        ("world: {noise: 2}", "world.noise must be in [0, 1], got 2.0"),
        ("a: [", "not valid YAML"),
        ("- a", "a configuration is a mapping of keys to values, found list"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "run.yaml"
    head = "out: x\n" if text.startswith("- ") is False else ""
    world = "" if "world" in text or text.startswith("- ") else "world: {}\n"
    file.write_text(head + world + text)
    with pytest.raises(ConfigError) as by_name:
        load_config(file)
    with pytest.raises(ConfigError) as by_command:
        parse_config(config_parser(prog="seralign"), [str(file)])
    assert says in str(by_name.value)
    assert says in str(by_command.value)
    assert str(by_name.value).startswith(str(file))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"out": "x"}, "policy.model is missing"),
        ({"out": "x", "policy.model": "m"}, "data.pairs is missing"),
        (
            {"out": "x", "policy.model": "m", "data.demonstrations.path": "d", "sft": {}},
            "sft also trains on data.demonstrations alone",
        ),
        ({"world": {}}, "out"),
    ],
)
def test_what_is_missing_is_named(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(None, values)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_config(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
