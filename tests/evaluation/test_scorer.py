"""A user's scorer: found, called, and its answer checked."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from seralign.errors import ConfigError
from seralign.evaluation.scorer import load_scorer, make_scorer

KEY = "evaluation.scorer"
numbers = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a module into the current folder and gives its name, new each time; sys.path is restored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(source: str) -> str:
        name = f"scorer_under_test_{next(numbers)}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write


def test_scores_come_through_as_float64(module) -> None:
    name = module("def length(prompts, responses):\n    return [len(p) + len(r) for p, r in zip(prompts, responses)]\n")
    scores = load_scorer(f"{name}:length", KEY)(["a", "bb"], ["xyz", ""])
    assert scores.dtype == np.float64
    assert scores.tolist() == [4.0, 2.0]
    assert load_scorer(f"{name}:length", KEY)([], []).shape == (0,)


@pytest.mark.parametrize("spec", ["lengths", ":f", "m:", ""])
def test_malformed_names_are_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.scorer must be of the form module:function"):
        load_scorer(spec, KEY)


def test_missing_module_or_function_is_named(module) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.scorer: cannot import 'no_such_module': No module named"):
        load_scorer("no_such_module:f", KEY)
    name = module("import not_installed_anywhere\n")
    with pytest.raises(ConfigError, match=f"cannot import '{name}': No module named 'not_installed_anywhere'"):
        load_scorer(f"{name}:f", KEY)
    name = module("score = 3\n")
    for function in ("f", "score"):
        with pytest.raises(ConfigError, match=f"module '{name}' has no function '{function}'"):
            load_scorer(f"{name}:{function}", KEY)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("[1.0]", r"one score per response, with shape \(2,\), got \(1,\)"),
        ("[[1.0], [2.0]]", r"got \(2, 1\)"),
        ("3.0", r"got \(\)"),
        ("None", r"got \(\)"),
        ("['good', 'bad']", "must return numbers, got list"),
        ("[1.0, float('nan')]", "returned nan for response 1; scores must be finite. Its prompt: 'q'"),
        ("[float('-inf'), 0.0]", "returned -inf for response 0"),
        ("['1.0', '2.0']", "must return numbers, got '1.0'; convert it with float"),
        ("[True, False]", "must return numbers, got True; convert it with float"),
        ("[1e308, -1e308]", r"returned 1e\+308; scores are at most 1e\+30 in size"),
        ("[10**400, 1]", "must return numbers, got list"),
    ],
)
def test_wrong_answers_are_refused(module, returned: str, message: str) -> None:
    name = module(f"def f(prompts, responses):\n    return {returned}\n")
    with pytest.raises(ConfigError, match=rf"evaluation\.scorer: {name}:f .*{message}"):
        load_scorer(f"{name}:f", KEY)(["p", "q"], ["a", "b"])


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("raise KeyError('mine')", r"KeyError: 'mine' \(\w+\.py line 2\)"),
        ("raise ValueError('two\\nlines')", r"ValueError: two lines \(\w+\.py line 2\)"),
        ("import sys; sys.exit(3)", r"SystemExit: 3 \(\w+\.py line 2\)"),
        ("import os; open('no/where')", r"FileNotFoundError: .*'no/where' \(\w+\.py line 2\)"),
    ],
)
@pytest.mark.parametrize("key", ["evaluation.scorer", "world.own.scorer"])
def test_an_error_inside_the_scorer_names_the_key_and_its_line(module, statement: str, message: str, key: str) -> None:
    name = module(f"def f(prompts, responses):\n    {statement}\n")
    with pytest.raises(ConfigError, match=rf"^{key}: {name}:f failed: {message}$"):
        load_scorer(f"{name}:f", key)(["p"], ["a"])
    name = module(f"\n{statement}\n")
    with pytest.raises(ConfigError, match=rf"^{key}: cannot import '{name}': {message}$"):
        load_scorer(f"{name}:f", key)


def test_wrong_answers_name_the_key_of_the_scorer(module) -> None:
    name = module("def f(prompts, responses):\n    return [10**400]\n")
    with pytest.raises(ConfigError, match=rf"^world\.own\.scorer: {name}:f must return numbers, got list$"):
        load_scorer(f"{name}:f", "world.own.scorer")(["p"], ["a"])
    with pytest.raises(ConfigError, match=r"^scorer: mine must return one score per response"):
        make_scorer(lambda prompts, responses: [], "mine", "scorer")(["p"], ["a"])


def test_a_user_who_interrupts_is_obeyed(module) -> None:
    name = module("def f(prompts, responses):\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_scorer(f"{name}:f", KEY)(["p"], ["a"])


def test_the_files_that_a_scorer_reads_are_part_of_its_digest(module, tmp_path: Path) -> None:
    name = module("def f(prompts, responses):\n    return [0.0] * len(prompts)\nf.data_files = ['data/words.txt']\n")
    words = tmp_path / "data" / "words.txt"
    words.parent.mkdir()
    words.write_text("good\n")
    first = load_scorer(f"{name}:f", KEY).digest
    assert load_scorer(f"{name}:f", KEY).digest == first
    words.write_text("bad\n")
    assert load_scorer(f"{name}:f", KEY).digest != first
    words.unlink()
    with pytest.raises(ConfigError, match=rf"evaluation\.scorer: {name}:f\.data_files: .*words\.txt cannot be read"):
        load_scorer(f"{name}:f", KEY)


@pytest.mark.parametrize("given", ["'words.txt'", "[3]", "None"])
def test_data_files_are_a_list_of_paths(module, given: str) -> None:
    name = module(f"def f(prompts, responses):\n    return []\nf.data_files = {given}\n")
    with pytest.raises(ConfigError, match=rf"{name}:f\.data_files must be a list of paths, got "):
        load_scorer(f"{name}:f", KEY)
