"""A run whose engine and judge are the user's own, named in the configuration; killed, it asks nothing twice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from small_run import small_config

from seralign.errors import ConfigError
from seralign.pipeline import train
from seralign.runs.files import read_table

# Answers each prompt with one of two words and an end; asks are written to a file, one line each.
ENGINE = """
from seralign.errors import ConfigError
from seralign.records import Candidate

DIE = None
ASKED = []


class Engine:
    identity = "words 1"
    prompts_per_request = 1
    in_every_process = False

    def __init__(self, policy, settings, key):
        if settings.top_p < 1:
            raise ConfigError(f"{key}.top_p must be 1 with this engine, got {settings.top_p}")
        self._policy, self._words = policy, settings.engine_options["words"]

    def sample(self, requests, watch=None):
        for request in requests:
            if DIE == len(ASKED):
                raise KeyboardInterrupt
            ASKED.append((request.policy, request.prompts[0].prompt_id, request.params, request.seed))
            end = min(request.end_tokens)
            found = []
            for prompt in request.prompts:
                for index in range(request.params.samples):
                    word = 5 + (len(prompt.ids) + index) % self._words
                    ids = (word, end)
                    text = self._policy.tokenizer.decode(ids, skip_special_tokens=True)
                    found.append(Candidate(prompt.prompt_id, index, text, ids, True))
            yield request, found


class Judge:
    identity = "coin 1"

    def __init__(self, options, key, scorer):
        self._says = options["says"]

    def judge(self, comparisons):
        from seralign.evaluation.judges import Verdict
        for comparison in comparisons:
            if DIE == len(ASKED):
                raise KeyboardInterrupt
            ASKED.append((comparison.prompt.prompt_id, comparison.first, comparison.second))
            yield comparison, Verdict(self._says)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The user's module, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "my_seams.py").write_text(ENGINE)
    monkeypatch.delitem(sys.modules, "my_seams", raising=False)
    import my_seams  # pyright: ignore[reportMissingImports]

    yield my_seams
    del sys.modules["my_seams"]


def config(out: Path, **overrides: Any) -> Any:
    sampling = {"engine": "my_seams:Engine", "engine_options": {"words": 2}, "max_new_tokens": 24}
    judged = {"judge": "my_seams:Judge", "judge_options": {"says": 0.75}}
    return small_config(
        out, rounds=2, sft=None, bootstrap={"samples": 2, **sampling},
        evaluation={"prompts": 6, **sampling, **judged}, **overrides,
    )  # fmt: skip


def test_a_run_samples_and_judges_by_what_its_configuration_names(mine: Any, tmp_path: Path) -> None:
    """0.75 of a win on each of 6 prompts, and 0.25 the other way. Killed at three asks, nothing is asked twice."""
    whole = train(config(tmp_path / "whole"))
    asked = list(mine.ASKED)
    figures = whole.run.record("round-2/evaluate").figures
    assert {name: (rate["mean"], rate["n"]) for name, rate in figures["win_rates"].items()} == {
        "initial": (0.75, 6), "round 1": (0.75, 6),
    }  # fmt: skip
    assert whole.figures.win_rates["initial"]["round 2"].mean == 0.25
    assert figures["score"] is not None, "the world's scorer still scores"
    verdicts = read_table(whole.run.path("round-2/evaluate", "verdicts.parquet")).to_pylist()
    assert len(verdicts) == 12
    assert {(row["first_better"], row["error"]) for row in verdicts} == {(0.75, None)}
    candidates = read_table(whole.run.path("round-2/sample", "candidates.parquet")).to_pylist()
    assert {row["ids"][0] for row in candidates} == {5, 6}

    mine.ASKED.clear()
    for die in (4, 30, len(asked) - 2):
        mine.DIE = die
        with pytest.raises(KeyboardInterrupt):
            train(config(tmp_path / "killed"))
    mine.DIE = None
    killed = train(config(tmp_path / "killed"))
    assert asked == mine.ASKED
    for stage, file in (("round-2/sample", "candidates.parquet"), ("round-2/evaluate", "verdicts.parquet")):
        assert read_table(killed.run.path(stage, file)).equals(read_table(whole.run.path(stage, file)))


@pytest.mark.usefixtures("mine")
def test_the_result_asks_no_judge_for_what_no_evaluation_judged(tmp_path: Path) -> None:
    """A judge may cost money: the baseline's answers were compared with the start's alone."""
    rates = train(config(tmp_path / "run", evaluation__baseline=True)).figures.win_rates
    assert {name: sorted(found) for name, found in rates.items()} == {
        "initial": ["dpo", "round 1", "round 2"], "round 1": ["initial", "round 2"],
        "round 2": ["initial", "round 1"], "dpo": ["initial"],
    }  # fmt: skip
    assert (rates["dpo"]["initial"].mean, rates["initial"]["dpo"].mean) == (0.75, 0.25)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"evaluation__top_p": 0.5}, r"evaluation\.top_p must be 1 with this engine, got 0\.5"),
        (
            {"bootstrap__engine_options": {}},
            r"bootstrap\.engine: my_seams:Engine failed: KeyError",
        ),
        ({"evaluation__judge": "my_seams:None_"}, r"evaluation\.judge: module 'my_seams' has no class 'None_'"),
        ({"evaluation__judge_options": {}}, r"evaluation\.judge: my_seams:Judge failed: KeyError: 'says'"),
    ],
)
def test_what_cannot_be_honoured_is_refused_before_anything_is_trained(
    overrides: dict[str, Any], says: str, mine: Any, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"^{says}"):
        train(config(tmp_path / "run", **overrides))
    assert not (tmp_path / "run" / "initial").exists()
    assert mine.ASKED == []
