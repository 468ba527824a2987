"""Values of configurations: how YAML is read, what types take, and that every key refuses what it cannot honour."""

from __future__ import annotations

import contextlib
import copy
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seralign.cli.main import main
from seralign.config import RunConfig, config_parser, load_config, parse_config, to_dict, to_yaml
from seralign.config.fields import all_keys, alternatives, dataclass_of, value_of
from seralign.config.hints import INSTEAD, SYNONYMS, type_at, unknown_key
from seralign.config.yaml12 import MAX_BYTES, MAX_VALUES, parse_yaml, read_yaml
from seralign.errors import ConfigError

# A configuration with every optional section in it.
WHOLE: dict[str, Any] = {
    "out": "x",
    "policy": {"model": "m", "lora": {}},
    "data": {
        name: {"path": "a.jsonl"} for name in ("pairs", "heldout", "prompts", "heldout_prompts", "demonstrations")
    },
    "sft": {},
    "crossfit": {},
    "world": {"name": "own", "own": {"prompts": {"path": "a.jsonl"}, "scorer": "m:f"}},
}
WRONG = [None, float("nan"), float("inf"), float("-inf"), 10**30, -(10**30), -1, "", [], {}, True, 2.5, "\0", "\ud800",
         b"x", {1: 2}, [None], [[]], {"": None}, 1e300, 1e-300, 2**63]  # fmt: skip
LEAVES = [key for key, hint in all_keys(RunConfig).items() if dataclass_of(hint) is None]


def with_value(key: str, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(WHOLE)
    if key.startswith("rlhf."):  # it takes the place of the rounds, which "crossfit" is for
        values |= {"rlhf": {"method": "grpo", "reward": "m:f"}, "rounds": 1, "crossfit": None}
    *parents, last = key.split(".")
    below = values
    for parent in parents:
        below = below.setdefault(parent, {})
    below[last] = value
    return values


def is_of(hint: Any, value: Any) -> bool:
    """Whether a plain value is of the type: written apart from what it checks."""
    kinds = alternatives(hint)
    names = {typing.get_origin(kind) or kind for kind in kinds}
    if isinstance(value, bool) or value is None:
        return type(value) in names or typing.Any in names
    if isinstance(value, int):
        return bool({int, float, typing.Any} & names)
    if isinstance(value, float):
        return bool({float, typing.Any} & names)
    literals = [
        choice for kind in kinds if typing.get_origin(kind) is typing.Literal for choice in typing.get_args(kind)
    ]
    return type(value) in names or value in literals


def test_the_whole_configuration_is_one() -> None:
    config = load_config(None, WHOLE)
    assert load_config(None, to_dict(config)) == config


@pytest.mark.parametrize("key", LEAVES)
def test_every_key_honours_a_value_or_says_why_not(key: str) -> None:
    hint = all_keys(RunConfig)[key]
    for value in WRONG:
        try:
            config = load_config(None, with_value(key, value))
        except ConfigError as error:
            message = str(error)
            assert "\n" not in message
            section, _, name = key.rpartition(".")
            assert message.startswith(key) or (message.startswith(section) and name in message), message
        else:
            assert is_of(hint, value), f"{key} took {value!r}"
            assert "nan" not in to_yaml(config)
            assert "inf" not in to_yaml(config).replace("initial", "")
            assert load_config(None, to_dict(config)) == config


@pytest.mark.parametrize("key", [key for key, hint in all_keys(RunConfig).items() if dataclass_of(hint) is not None])
def test_every_section_takes_keys_only(key: str) -> None:
    a_list = [] if key == "objective" else [[{}]]
    for value in ("text", 1, True, [], *a_list, float("nan")):
        with pytest.raises(ConfigError, match=f"^{key}: expected a section with keys and values"):
            load_config(None, with_value(key, value))
    with pytest.raises(ConfigError, match=f"^{key}.frobnicate: unknown key; known below {key}: {key}"):
        load_config(None, with_value(f"{key}.frobnicate", 1))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("rounds", "3", "rounds must be a whole number, got '3'; remove the quotes"),
        ("rounds", True, "rounds must be a whole number, got true"),
        ("rounds", 2.0, "rounds must be a whole number, got 2.0"),
        ("seed", 2**63, "seed must be a whole number of at most 2147483647, got 9223372036854775808"),
        ("data.max_length", 10**18, "data.max_length must be a whole number of at most 2147483647"),
        ("training.learning_rate", "1e-6", "training.learning_rate must be a number, got '1e-6'; remove the quotes"),
        ("training.learning_rate", float("inf"), "training.learning_rate must be a finite number, got inf"),
        ("training.learning_rate", 1e300, "training.learning_rate must be a number between 1e-30 and 1e+30 in size"),
        ("training.gradient_checkpointing", "yes", "training.gradient_checkpointing must be true or false, got 'yes'"),
        ("policy.revision", 12345678, "policy.revision must be text or null, got 12345678"),
        ("policy.lora.target_modules", ["q", 1], "policy.lora.target_modules[1] must be text, got 1"),
        ("bootstrap.shares", [0.1, None], "bootstrap.shares[1] must be a number, got null"),
        ("data.pairs.columns", {"chosen": 1}, "data.pairs.columns.chosen must be text, got 1"),
        ("training.extra", {"a": {"b": [float("nan")]}}, "training.extra.a.b[0] must be a finite number, got nan"),
        ("training.extra", {1: 2}, "training.extra: a key below it must be text, got 1; put it in quotes"),
        ("data.pairs", "a.jsonl", "data.pairs: expected a section with keys and values, got 'a.jsonl'; did you mean"),
        ("data.pairs", {}, "data.pairs.path is missing"),
        ("out", "", "out must not be empty"),
        ("policy.model", "", "policy.model must not be empty; leave it out"),
        ("seed", -1, "seed must be at least 0, got -1"),
        ("data.pairs.limit", 0, "data.pairs.limit must be at least 1, got 0"),
        ("policy.lora.target_modules", [], "policy.lora.target_modules must be all-linear or names of modules, got []"),
        ("training.learning_rate", 100, "training.learning_rate must be at most 10, got 100.0"),
        ("sft.weight_decay", -0.1, "sft.weight_decay must be at least 0, got -0.1"),
        ("training.max_grad_norm", -1, "training.max_grad_norm must be at least 0, got -1.0"),
        ("objective.beta", 1e29, "objective.beta must be at most 1e6, got 1e+29"),
        ("bootstrap.samples", 2**31 - 1, "bootstrap.samples must be at most 10000, got 2147483647"),
        ("out", "a\0b", "out must be text in UTF-8 without null characters"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_named(key: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(None, with_value(key, value))
    assert str(error.value).startswith(says)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6), ("1E+3", 1000.0), ("-.5", -0.5), ("3.", 3.0), ("+12", 12), ("0", 0), ("-0", 0), ("0x1F", 31),
        ("0.10", 0.1), ("2024-05-01", "2024-05-01"), ("12:x", "12:x"), ("y", "y"), ("=", "="), ("1.2.3", "1.2.3"),
        ("~", None), ("", None), ("Null", None), ("TRUE", True), ("false", False), ("nUll", "nUll"), ("'no'", "no"),
        ('"010"', "010"), ("1e5x", "1e5x"), ("[1, a, {b: .5}]", [1, "a", {"b": 0.5}]),
        (".inf", float("inf")), ("-.INF", float("-inf")),
    ],
)  # fmt: skip
def test_yaml_is_read_by_the_core_schema_of_1_2(text: str, value: Any) -> None:
    read = parse_yaml(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("text", ["yes", "No", "ON", "off", "010", "-007", "08", "0o17", "0b11", "1:30", "1:30:15.5",
                                  "1_000", "1_0.5"])  # fmt: skip
def test_what_yaml_1_1_reads_otherwise_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"out: x\nworld:\n  seed: 3\n  noise: {text}\n")
    with pytest.raises(ConfigError) as error:
        load_config(file)
    assert str(error.value).startswith(f"{file}: world.noise (line 4): {text} has different meanings in YAML 1.1")
    with pytest.raises(ConfigError, match=r"^seed: .* in quotes if you mean text$"):
        parse_config(config_parser(prog="seralign"), ["--out", "x", "--world", "{}", "--seed", text])
    assert parse_yaml(f"a: '{text}'") == {"a": text}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("out: x\nout: y\n", "out (line 2): given twice, first on line 1"),
        ("a:\n  b: 1\n  c: 2\n  'b': 3\n", "a.b (line 4): given twice, first on line 2"),
        ("a:\n\tb: 1\n",
         "not valid YAML: found character '\\t' that cannot start any token (line 2); indent with spaces"),
        ("a: *b\n", "not valid YAML: found undefined alias 'b' (line 1)"),
        ("a: &a [*a]\n", "a[0] (line 1): an alias refers to a value that contains it"),
        ("a: !!python/object/apply:os.system [ls]\n", "a (line 1): the tag tag:yaml.org,2002:python/object/apply:os."),
        ("a: !mine 1\n", "a (line 1): the tag !mine is not allowed in a configuration"),
        ("a: !!timestamp 2024-05-01\n", "a (line 1): the tag tag:yaml.org,2002:timestamp"),
        ("a: !!int x\n", "not valid YAML: invalid literal for int"),
        ("{[1]: 2}\n", "the value (line 1): a key must be text"),
        ("a: 1\n---\nb: 2\n", "not valid YAML: but found another document (line 2)"),
        ("a: \x1b\n", "not valid YAML: unacceptable character #x001b"),
        ("a: " + "9" * 5000 + "\n", "not valid YAML: Exceeds the limit"),
        ("[" * 5000, "nested too deeply"),
        ("a: 1: 2\n", "not valid YAML: mapping values are not allowed here (line 1)"),
        ("- 1\n", "a configuration is a mapping of keys to values, found list"),
        ("# nothing\n", "a configuration is a mapping of keys to values, found an empty file"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_taken_as_it_is(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_yaml(file)
    assert str(error.value).startswith(f"{file}: {says}")


def test_aliases_of_aliases_are_counted() -> None:
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    with pytest.raises(ConfigError, match=rf"^[f-g](\[0\])? \(line \d\): more than {MAX_VALUES:,} values"):
        parse_yaml("\n".join(lines))
    merges = "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nc: {<<: *b, x: 2}\n"
    assert parse_yaml(merges) == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 2}}


def test_files_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(b"out: x\nseed: 1 # \xff\n")
    with pytest.raises(ConfigError, match=r"line 2 is not UTF-8 text \(byte 0xff\)"):
        read_yaml(file)
    file.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than 1,000,000 bytes"):
        read_yaml(file)
    file.write_bytes("\ufeffout: x\r\nseed: 1\r\n".encode())
    assert read_yaml(file) == {"out": "x", "seed": 1}
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_config("a\0b.yaml")


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.yaml").write_text("{out: ~/r, world: {}, policy: {adapter: ~/a}, scoring: {cache: ~/c}}")
    config = load_config("~/run.yaml", {"reference.model": "~/m", "data.system": "~/s"})
    assert (config.out, config.policy.adapter) == (f"{tmp_path}/r", f"{tmp_path}/a")
    assert (config.scoring.cache, config.reference.model) == (f"{tmp_path}/c", f"{tmp_path}/m")
    assert config.data.system == "~/s"
    assert load_config("~/run.yaml", {"out": "~no-such-user/r"}).out == "~no-such-user/r"
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_config("~no-such-user/run.yaml")


@settings(max_examples=200)
@given(st.text(alphabet=st.sampled_from("ab01:.-_&*!<>{}[],\"'#|%\n\t \x85\ufeff~é\u2028"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        values = parse_yaml(text)
        assert values is None or isinstance(values, str | int | float | bool | list | dict)


@pytest.mark.parametrize(
    ("dotted", "nested"),
    [
        ("policy.lora.r: 8", "policy: {lora: {r: 8}}"),
        ("policy: {lora.r: 8, lora.alpha: 4}", "policy: {lora: {r: 8, alpha: 4}}"),
        ("policy: {lora: {r: 8}}\npolicy.lora.alpha: 4", "policy: {lora: {r: 8, alpha: 4}}"),
        ("training.extra.adam_beta2: 0.9", "training: {extra: {adam_beta2: 0.9}}"),
        ("objective.name: ipo\nobjective: {beta: 0.2}", "objective: {name: ipo, beta: 0.2}"),
        # Below names of the user's own, a dot is part of the name.
        ("data.roles: {a.b: user}", "data: {roles: {a.b: user}}"),
        ("data.roles.a.b: user", "data: {roles: {a.b: user}}"),
        ("evaluation: {judge: 'm:J', judge_options: {x.y: 1}}", "evaluation: {judge: 'm:J', judge_options: {x.y: 1}}"),
        ("recipe: sera_stable\nscoring.ensemble_weight: 0.1", "recipe: sera_stable\nscoring: {ensemble_weight: 0.1}"),
    ],
)
def test_keys_of_a_file_may_be_dotted(dotted: str, nested: str, tmp_path: Path) -> None:
    found = []
    for text in (dotted, nested):
        file = tmp_path / "run.yaml"
        file.write_text(f"out: x\nworld: {{}}\n{text}\n")
        found += [load_config(file), parse_config(config_parser(prog="seralign"), [str(file)])[0]]
    assert all(config == found[0] for config in found)
    assert found[0] != load_config(None, {"out": "x", "world": {}})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("policy.lora.r: 8\npolicy: {lora: {r: 4}}", "policy.lora.r is given twice"),
        ("policy: {lora.r: 8, lora: {r: 8}}", "policy.lora.r is given twice"),
        ("bootstrap: null\nbootstrap.samples: 4", "bootstrap.samples: bootstrap is null in the same file"),
        ("objective: [{name: dpo}]\nobjective.beta: 1.0", "objective.beta: objective is a list in the same file"),
        ("rounds: 2\nrounds.x: 2", "rounds.x: unknown key"),
        ("policy.lora.rank: 8", "policy.lora.rank: unknown key; did you mean policy.lora.r?"),
        ("training.max_steps: x", "training.max_steps must be a whole number or null, got 'x'"),
    ],
)
def test_dotted_keys_that_clash_are_named(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"out: x\nworld: {{}}\n{text}\n")
    for read in (load_config, lambda path: parse_config(config_parser(prog="seralign"), [str(path)])):
        with pytest.raises(ConfigError) as caught:
            read(file)
        assert str(caught.value).startswith(f"{file}: {says}")


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("training.lr", "did you mean training.learning_rate?"),
        ("sft.lr", "did you mean sft.learning_rate?"),
        ("lr", "did you mean training.learning_rate?"),
        ("policy.lora.rank", "did you mean policy.lora.r?"),
        ("lora_r", "did you mean policy.lora.r?"),
        ("lora.r", "did you mean policy.lora.r?"),
        ("beta", "did you mean objective.beta?"),
        ("gamma", "objective.target_margin, and that of the reward ensemble is scoring.ensemble_weight"),
        ("max_steps", "did you mean training.max_steps?"),
        ("max_prompt_length", "did you mean data.max_prompt_length?"),
        ("training.max_seq_length", "did you mean data.max_length?"),
        ("per_device_train_batch_size", "did you mean training.batch_size?"),
        ("trainig.batch_size", "did you mean training.batch_size?"),
        ("training.batchsize", "did you mean training.batch_size?"),
        ("training.learning-rate", "did you mean training.learning_rate?"),
        ("label_smoothing", "did you mean objective.label_smoothing?"),
        ("training.label_smoothing_factor", "did you mean objective.label_smoothing?"),
        ("objective.f_divergence_type", "did you mean objective.divergence?"),
        ("training.gradient_accumulation_steps", "training.batch_size is the number of pairs in a step"),
        ("exmples", "did you mean examples?"),
        ("rounds.x", "did you mean rounds?"),
    ],
)
def test_the_key_that_was_meant_is_named(key: str, says: str, tmp_path: Path) -> None:
    parser = config_parser(prog="seralign")
    parser.add_argument("--examples", type=int)
    with pytest.raises(ConfigError) as by_flag:
        parse_config(parser, ["--out", "x", "--world", "{}", f"--{key}", "1"])
    assert str(by_flag.value).startswith(f"{key}: ")
    assert says in str(by_flag.value)
    if key in ("exmples", "rounds.x"):
        return
    values: Any = 1
    for name in reversed(key.split(".")):
        values = {name: values}
    file = tmp_path / "run.yaml"
    file.write_text(repr({"out": "x", "world": {}} | values))
    for path, overrides in ((file, {}), (None, {"out": "x", "world": {}, key: 1})):
        with pytest.raises(ConfigError) as error:
            load_config(path, overrides)
        assert says in str(error.value)


def test_hints_name_keys_that_there_are() -> None:
    keys = all_keys(RunConfig)
    names = {key.rpartition(".")[2] for key in keys}
    for ours, others in SYNONYMS.items():
        assert ours in keys or type_at(ours) is not None, ours
        for theirs in others:
            assert theirs not in keys
            assert f"did you mean {ours}?" in unknown_key(theirs)
    assert not names & INSTEAD.keys()


def test_no_module_is_loaded_for_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "harmful.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(tmp_path)
    for value in ("harmful.Class", "{class_path: harmful.Class}"):
        with pytest.raises(ConfigError, match=r"^data\.pairs"):
            parse_config(config_parser(prog="seralign"), ["--out", "x", "--policy.model", "m", "--data.pairs", value])


def test_flags_are_read_in_order_and_as_the_key_has_it() -> None:
    def parsed(*arguments: str) -> RunConfig:
        return parse_config(config_parser(prog="seralign"), ["--out", "x", "--world", "{}", *arguments])[0]

    assert parsed("--policy.revision", "010").policy.revision == "010"
    assert parsed("--data.system=--no: [a").data.system == "--no: [a"
    assert parsed("--data.system", "null").data.system is None
    assert parsed("--policy.lora.target_modules", "[q, v]").policy.lora.target_modules == ["q", "v"]  # pyright: ignore
    assert parsed("--stop.min_gain", "-1e-2").stop.min_gain == -0.01
    assert parsed("--training.extra", "{a: 1}", "--training.extra.b", "1e-3").training.extra == {"a": 1, "b": 1e-3}
    assert parsed("--training.extra.b", "2", "--training.extra", "{a: 1}").training.extra == {"a": 1}
    for path in ("[a]b.jsonl", "[ab", "a]"):
        assert parsed("--data.pairs.path", path).data.pairs.path == path  # pyright: ignore
    assert parsed("--data.pairs.path", "[a, b]").data.pairs.path == ["a", "b"]  # pyright: ignore
    columns = parsed("--data.pairs.path", "p", "--data.pairs.columns.chosen", "1").data.pairs
    assert columns is not None
    assert columns.columns == {"chosen": "1"}
    assert parsed("--bootstrap.selection.rule", "all").bootstrap.selection.fraction == 0.6  # pyright: ignore


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rounds"], "rounds: the value is missing; give it as --rounds VALUE"),
        (["--rounds", "--seed", "1"], "rounds: the value is missing; give it as --rounds VALUE"),
        (["--rounds", "["], "rounds: not valid YAML"),
        (["run.yaml", "other.yaml"], "other.yaml: not an option; seralign --help lists them"),
        (["a.yaml", "--config", "b.yaml"], "only one configuration file can be given, got a.yaml, b.yaml"),
        (["-x"], "-x: not an option"),
    ],
)
def test_arguments_that_are_no_flags(arguments: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(config_parser(prog="seralign"), arguments)
    assert str(error.value).startswith(says)


def test_the_demo_s_help_is_of_the_demo_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["demo", "--help"])
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 25
    for words in ("--out DIR", "--print_config", "docs/configuration.md", "seralign train --help"):
        assert words in " ".join(out.split())
    with pytest.raises(SystemExit, match="0"):
        main(["demo", "--training.max_steps", "7", "--print_config"])
    assert "max_steps: 7" in capsys.readouterr().out


def test_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        config_parser(prog="seralign").parse_args(["--help"])
    out = capsys.readouterr().out
    for key in all_keys(RunConfig):
        assert f"--{key} " in out, key
    assert value_of(all_keys(RunConfig)["training.extra"]) is not None
