"""``seralign best-of``: the best of n responses, by whatever decides, resumable, for ``seralign evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from best_of_scorers import letters

from seralign.cli.main import main
from seralign.config import SourceConfig
from seralign.config.best_of import BestOfConfig, load_best_of_config
from seralign.errors import ConfigError
from seralign.evaluation import implicit
from seralign.evaluation.best_of import kl_bound, subset_means

FLAGS = ("--n", "5", "--max_new_tokens", "6", "--seed", "3")
SCORER = ("--scorer", "best_of_scorers:letters")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    rows = ["Say 1.", "Say 2.", "x" * 1100, "Say 1."]
    file.write_text("".join(json.dumps({"prompt": row}) + "\n" for row in rows), encoding="utf-8")
    return file


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def run(place: Path, prompts: Path, out: Path, *more: str) -> int:
    return main(["best-of", str(place), "--prompts", str(prompts), "--out", str(out), *FLAGS, *more])


def test_the_best_by_a_scorer(
    lora_run: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "best.jsonl"
    assert run(lora_run, prompts, out, *SCORER) == 0
    found = lines(out)
    for line in (found[0], found[1], found[3]):
        scores = letters(["Say"] * 5, [one["text"] for one in line["candidates"]])
        assert [one["score"] for one in line["candidates"]] == scores
        assert line["best"] == int(np.argmax(scores))
        assert line["responses"] == [line["candidates"][line["best"]]]
    assert found[0]["candidates"] == found[3]["candidates"], "a repeated prompt has equal responses"
    assert (found[2]["responses"], "candidates" in found[2]) == ([], False)
    assert "1024 positions" in found[2]["left_out"]
    said = capsys.readouterr().out
    means = subset_means([[one["score"] for one in found[at]["candidates"]] for at in (0, 1)], [4]).mean()
    row = next(line.split() for line in said.splitlines() if line.split()[:1] == ["4"])
    assert row[:3] == ["4", f"{kl_bound(4):.3f}", f"{means:.3f}"]
    assert "means over 2 prompts" in said
    assert "1 prompts were not answered" in said
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["best.jsonl", "prompts.jsonl"]


@pytest.mark.parametrize("rule", ["win_rate", "knockout"])
def test_the_best_by_a_judge(lora_run: Path, prompts: Path, tmp_path: Path, rule: str) -> None:
    out = tmp_path / "best.jsonl"
    assert run(lora_run, prompts, out, "--judge", "best_of_scorers:First", "--rule", rule) == 0
    for line in (lines(out)[0], lines(out)[1]):
        texts = [one["text"] for one in line["candidates"]]
        assert line["responses"][0]["text"] == min(texts)
        if rule == "win_rate":
            rates = [np.mean([0.5 if a == b else a < b for j, b in enumerate(texts) if j != i])
                     for i, a in enumerate(texts)]  # fmt: skip
            assert [one["score"] for one in line["candidates"]] == pytest.approx(rates)
        else:
            assert "score" not in line["candidates"][0]


def test_a_round_of_a_tournament_without_a_verdict(
    lora_run: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first of two stays where the judge is undecided. Failed requests are an error, and only they are asked again.

    Of five responses to two prompts the first round has four pairs, and the last two rounds two each."""
    out, options = tmp_path / "best.jsonl", ("--judge", "best_of_scorers:Sometimes", "--rule", "knockout")
    monkeypatch.setenv("FAILS", "1")
    assert run(lora_run, prompts, out, *options) == 2
    said = capsys.readouterr().err
    assert "error: judge: 2 of 2 comparisons failed (no answer); give the same command again" in said
    assert not out.exists()
    monkeypatch.delenv("FAILS")
    assert run(lora_run, prompts, out, *options) == 0
    assert "warning: judge: no verdict on 4 of 8 comparisons (pairs of responses)" in capsys.readouterr().err
    for line in lines(out)[:2]:
        texts = [one["text"] for one in line["candidates"]]
        assert len(set(texts)) == 5
        assert line["responses"][0]["text"] == min(texts[:2])


def test_the_best_by_the_implicit_reward_of_a_run(
    lora_run: Path, prompts: Path, tmp_path: Path, chat_model: Path
) -> None:
    """Against its own reference, and named as an ordinary adapter with the same model beside it."""
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    assert run(lora_run, prompts, first, "--reward", str(lora_run)) == 0
    named = ("--reward", str(lora_run / "result"), "--reference", str(chat_model))
    assert run(lora_run, prompts, second, *named) == 0
    for line in lines(first)[:2]:
        scores = [one["score"] for one in line["candidates"]]
        assert line["best"] == int(np.argmax(scores))
        assert any(abs(score) > 1e-6 for score in scores), "the adapter changed something"
    assert first.read_text() == second.read_text()


def test_a_killed_command_resumes(
    lora_run: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "best.jsonl"
    assert run(lora_run, prompts, whole, *SCORER) == 0
    with monkeypatch.context() as patch:
        patch.setattr("seralign.pipeline.best_of.write_atomic", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(lora_run, prompts, out, *SCORER) == 130
    assert not out.exists()
    # Neither the model nor the scorer is needed again.
    monkeypatch.setattr("seralign.pipeline.asking.load_model", pytest.fail)
    monkeypatch.setattr("seralign.evaluation.scores.Scorer.__call__", pytest.fail)
    assert run(lora_run, prompts, out, *SCORER) == 0
    assert out.read_bytes() == whole.read_bytes()


def test_a_configuration_says_the_same(lora_run: Path, prompts: Path, tmp_path: Path) -> None:
    config = tmp_path / "best.yaml"
    config.write_text(
        f"model: {lora_run}\nprompts: {prompts}\nout: {tmp_path / 'a.jsonl'}\nn: 5\nscorer: best_of_scorers:letters\n"
        "max_new_tokens: 6\nseed: 3\n"
    )
    assert main(["best-of", str(config), "--prompts.limit", "1"]) == 0
    assert run(lora_run, prompts, tmp_path / "b.jsonl", *SCORER) == 0
    assert lines(tmp_path / "a.jsonl") == lines(tmp_path / "b.jsonl")[:1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"scorer, judge and reward: set one of them, got none"),
        ({"scorer": "a:b", "reward": "x"}, r"scorer, judge and reward: set one of them, got scorer and reward"),
        ({"scorer": "a:b", "judge": "other"}, r"set one of them, got scorer and judge"),
        ({"scorer": "a:b", "n": 1}, r"n must be at least 2"),
        ({"scorer": "a:b", "temperature": 0}, r"temperature must be greater than 0"),
        ({"scorer": "a:b", "rule": "knockout"}, r"rule: it is for a judge; set judge"),
        ({"scorer": "a:b", "reference": "x"}, r"reference: it is for an implicit reward; set reward"),
        ({"scorer": "a:b", "samples": 4}, r"samples: unknown key"),
        ({"scorer": "a:b", "prompts.lines": 4}, r"prompts\.lines: unknown key"),
        ({"scorer": "a:b", "out": "best.json"}, r"out must be a file that ends with \.jsonl"),
    ],
)
def test_a_wrong_configuration_is_one_clear_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_best_of_config("model", {"prompts": "p.jsonl", "out": "o.jsonl"} | values)


def test_a_scorer_may_be_the_judge() -> None:
    config = load_best_of_config("m", {"prompts": "p", "out": "o.jsonl", "judge": "scorer", "scorer": "a:b"})
    assert config == BestOfConfig("m", SourceConfig("p"), "o.jsonl", judge="scorer", scorer="a:b")


def test_a_reward_without_its_reference_is_refused_before_anything_is_sampled(
    lora_run: Path, chat_model: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lora_run, prompts, tmp_path / "best.jsonl", "--reward", str(chat_model)) == 2
    said = capsys.readouterr().err
    assert f"error: reference is missing: {chat_model} is not a run" in said
    assert "responses" not in said


def test_a_reward_with_another_tokenizer_is_refused(
    lora_run: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = iter([{"policy.tokenizer": "one"}, {"policy.tokenizer": "another"}])
    monkeypatch.setattr(implicit, "tokenizer_inputs", lambda *_: next(digests))
    assert run(lora_run, prompts, tmp_path / "best.jsonl", "--reward", str(lora_run)) == 2
    said = capsys.readouterr().err
    assert f"error: reward: round 2 of {lora_run}, its result has another tokenizer" in said


def test_the_file_is_evaluated_as_a_policys_outputs(lora_run: Path, prompts: Path, tmp_path: Path) -> None:
    """Against the first of the same responses, which the sampling alone would have given."""
    best, one = tmp_path / "best.jsonl", tmp_path / "one.jsonl"
    assert run(lora_run, prompts, best, *SCORER, "--prompts.limit", "2") == 0
    rows = lines(best)
    one.write_text("".join(json.dumps(row | {"responses": row["candidates"][:1]}) + "\n" for row in rows))
    config = {
        "out": str(tmp_path / "evaluation"), "prompts": {"path": str(prompts), "limit": 2},
        "policies": {"best": {"outputs": str(best)}, "one": {"outputs": str(one)}},
        "baseline": "one", "scorer": "best_of_scorers:letters", "length_control": False,
    }  # fmt: skip
    (tmp_path / "evaluate.yaml").write_text(json.dumps(config))
    assert main(["evaluate", str(tmp_path / "evaluate.yaml")]) == 0
    outcomes = [0.5 + 0.5 * np.sign(max(scores) - scores[0])
                for scores in ([each["score"] for each in row["candidates"]] for row in rows)]  # fmt: skip
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    (pair,) = results["pairs"]
    assert (pair["policy"], pair["rival"], pair["comparisons"]) == ("best", "one", 2)
    assert pair["win_rate"]["mean"] == pytest.approx(np.mean(outcomes))
    assert pair["win_rate"]["mean"] > 0.5
