"""The configuration of an evaluation is read as it stands, or refused with its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from seralign.config import ServerConfig
from seralign.config.evaluate import EvaluatedConfig, evaluate_config, load_evaluate_config
from seralign.errors import ConfigError

GIVEN: dict[str, Any] = {
    "out": "e",
    "prompts": {"path": "p.jsonl"},
    "policies": {"a": "runs/a", "b": {"model": "runs/b", "round": 2}},
    "scorer": "m:f",
}


def test_the_forms_of_policies() -> None:
    server = {"url": "http://localhost:1/v1", "model": "m", "parallel": 2}
    policies = {
        "short": "runs/a",
        "a round": {"model": "runs/a", "round": 2},
        "start": {"model": "runs/a", "round": "start"},
        "all": {"model": "runs/a", "rounds": "all"},
        "served": {"server": server},
        "file": {"outputs": "o.json", "generator": "g"},
    }
    config = evaluate_config(GIVEN | {"policies": policies})
    assert list(config.policies.values()) == [
        EvaluatedConfig(model="runs/a"),
        EvaluatedConfig(model="runs/a", round=2),
        EvaluatedConfig(model="runs/a", round="start"),
        EvaluatedConfig(model="runs/a", rounds="all"),
        EvaluatedConfig(server=ServerConfig("http://localhost:1/v1", "m", parallel=2)),
        EvaluatedConfig(outputs="o.json", generator="g"),
    ]
    assert config.sampling.temperature == 0.0
    assert config.baseline is None


def test_a_file_and_flags(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text(yaml.safe_dump(GIVEN | {"max_new_tokens": 5, "judge": "scorer"}), encoding="utf-8")
    flags = {"prompts.limit": 3, "judge_options.x": 1, "temperature": 0.7, "baseline": "a"}
    config = load_evaluate_config(file, flags)
    assert (config.prompts.limit, config.judge_options, config.baseline) == (3, {"x": 1}, "a")
    assert (config.sampling.temperature, config.sampling.max_new_tokens) == (0.7, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policies": None}, "policies is missing"),
        ({"policies": ["a", "b"]}, "policies must be a mapping of names to policies"),
        ({"policies": {"a": "m"}}, "policies: two policies are needed to compare, got a"),
        ({"policies": {"a": "m", "b": {}}}, "policies.b.model, server and outputs: set one of them, got none"),
        ({"policies": {"a": "m", "b": {"model": "m", "outputs": "o"}}}, "got model and outputs"),
        ({"policies": {"a": "m", "b": 3}}, "policies.b must be a model, or a section with model, server or outputs"),
        ({"policies": {"a": "m", "b": {"modle": "m"}}}, "policies.b.modle: unknown key; did you mean policies.b.model"),
        ({"policies": {"a": "m", "b": {"outputs": "o", "round": 1}}}, "round and rounds choose policies of a run"),
        ({"policies": {"a": "m", "b": {"model": "m", "round": 1, "rounds": "all"}}}, "exclude each other"),
        ({"policies": {"a": "m", "b": {"model": "m", "generator": "g"}}}, "generator chooses a model of a file"),
        ({"policies": {"a": "m", "b": {"server": {"url": "http://x/v1"}}}}, "policies.b.server.model is missing"),
        ({"policies": {"a": "m", "b": {"server": {"urll": "x"}}}}, "policies.b.server.urll: unknown key"),
        ({"policies": {"a": "m", "../b": "m"}}, "policies must be named with letters, digits"),
        ({"policies": {"a": "m", "A": "m"}}, "policies.A must be another name than that of a"),
        ({"baseline": "c"}, r"baseline must be the name of a policy \(a, b\), got 'c'"),
        ({"scorer": None}, "judge is missing"),
        ({"judge_options": {"x": 1}}, "judge_options need judge"),
        (
            {"judge": "scorer", "judge_options": {"api_key": "s3cr3t"}},
            "judge_options.api_key: this looks like a secret",
        ),
        ({"scorer": "m"}, "scorer must be of the form module:function"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"promts": {}}, "promts: unknown key; did you mean prompts"),
        ({"prompts": {"paht": "p"}}, "prompts.paht: unknown key; did you mean prompts.path"),
        ({"prompts": None}, "prompts: expected a section"),
    ],
)
def test_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate_config(GIVEN | change)


def test_a_policy_that_is_named_twice_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text("out: e\npolicies: {a: m, b: n, a: o}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"e\.yaml.*policies\.a.*: given twice"):
        load_evaluate_config(file)
