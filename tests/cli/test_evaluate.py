"""``seralign evaluate``: figures that can be worked out by hand, and nothing asked twice."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from evaluate_files import OUTPUTS, alpaca_rows, length, write_rows
from fake_server import Asked, Scripted, chat, fake_server
from forked import ends_by_itself

import seralign
from seralign.cli.main import main
from seralign.config.evaluate import evaluate_config
from seralign.errors import ConfigError, ModelError, SeralignError, StoreError
from seralign.evaluation.bootstrap import cluster_interval
from seralign.evaluation.difficulty import Outcomes
from seralign.evaluation.length_control import length_control
from seralign.intervals import Interval, share_interval
from seralign.pipeline.evaluate.run import evaluate
from seralign.runs.evaluated import CostFigures, JudgesFigures
from seralign.runs.files import read_table

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "data"
SCORER = "def words(prompts, responses):\n    return [float(len(text)) for text in responses]\n"


@pytest.fixture
def command(evaluation: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line of the evaluation, with its scorer in a module."""
    (tmp_path / "lengths_of_texts.py").write_text(SCORER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "evaluate.yaml"
    file.write_text(yaml.safe_dump(evaluation | {"scorer": "lengths_of_texts:words"}), encoding="utf-8")
    return ["evaluate", str(file)]


def test_two_files_and_a_baseline(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """a wins twice, ties once, and once both texts are equal: (2 + 1/2 + 1/2) / 4."""
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "75.0%" in told
    figures = json.loads((tmp_path / "evaluation" / "results.json").read_text(encoding="utf-8"))
    [pair] = figures["pairs"]
    rate = share_interval([1.0, 1.0, 0.5, 0.5])
    assert rate is not None
    assert pair["win_rate"] == rate.to_dict()
    assert (pair["policy"], pair["rival"], pair["comparisons"], pair["equal"]) == ("a", "b", 4, 1)
    assert pair["tie_rate"]["mean"] == 0.5
    assert (pair["unreadable"], pair["failed"], pair["position_bias"]) == (0, 0, None)
    assert [(one["name"], one["answered"], one["characters"]["mean"]) for one in figures["policies"]] == [
        ("a", 4, 23 / 4), ("b", 4, 13 / 4),
    ]  # fmt: skip
    assert "compared with b, judged by scorer" in (tmp_path / "evaluation" / "report.html").read_text(encoding="utf-8")
    rows = read_table(tmp_path / "evaluation" / "comparisons.parquet").to_pylist()
    assert [(row["first_better"], row["scores"], row["equal"]) for row in rows] == [
        (1.0, [8.0, 3.0], False), (1.0, [8.0, 3.0], False), (0.5, [3.0, 3.0], False), (0.5, None, True),
    ]  # fmt: skip


def test_files_that_alpaca_eval_reads(evaluation: dict[str, Any]) -> None:
    """Preference is 1 for output_1, 2 for output_2, and 1.5 for a tie; its mean less 1 is the win rate."""
    root = evaluate(evaluate_config(evaluation), length).folder / "alpaca_eval"
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*.json")) == [
        "a/annotations_b.json", "a/model_outputs.json", "b/model_outputs.json",
    ]  # fmt: skip
    assert json.loads((root / "a" / "model_outputs.json").read_text()) == alpaca_rows("a", OUTPUTS["a"])
    rows = json.loads((root / "a" / "annotations_b.json").read_text())
    assert [row["preference"] for row in rows] == [2.0, 2.0, 1.5, 1.5]
    assert {key: rows[0][key] for key in rows[0] if key != "annotator"} == {
        "instruction": "Say 1.", "output_1": "one", "generator_1": "b", "output_2": "one, one", "generator_2": "a",
        "preference": 2.0,
    }  # fmt: skip
    assert rows[0]["annotator"].startswith("scorer ")


@pytest.mark.parametrize("side", ["baseline", "all"])
def test_length_control_is_that_of_the_statistics(side: str, evaluation: dict[str, Any], tmp_path: Path) -> None:
    """Difficulty comes from the other policy against the same rival, turned where it was compared the other way."""
    evaluation["policies"]["c"] = {"outputs": write_rows(tmp_path / "c.json", alpaca_rows("c", ["x" * 9, "y"] * 2))}
    config = evaluate_config(evaluation | ({} if side == "baseline" else {"baseline": None}))
    root, figures = (result := evaluate(config, length)).folder, result.figures
    own, other = ("a", "c") if side == "baseline" else ("c", "a")
    rows = read_table(root / "comparisons.parquet").to_pylist()
    texts = {name: [row["output"] for row in read_table(root / "outputs.parquet").to_pylist() if row["policy"] == name]
             for name in "abc"}  # fmt: skip

    def outcomes(policy: str) -> Outcomes:
        found = [row for row in rows if {row["policy"], row["rival"]} == {policy, "b"}]
        better = [row["first_better"] if row["policy"] == policy else 1 - row["first_better"] for row in found]
        longer = [len(mine) - len(theirs) for mine, theirs in zip(texts[policy], texts["b"], strict=True)]
        return Outcomes([row["prompt_id"] for row in found], np.array(better), np.array(longer))

    wanted = length_control(outcomes(own), [outcomes(other)]).controlled
    assert wanted is not None
    assert [one.length_controlled for one in figures.pairs if (one.policy, one.rival) == (own, "b")] == [wanted]
    without = evaluate(replace(config, length_control=False, out=str(tmp_path / "w")), length).figures
    assert {one.length_controlled for one in without.pairs} == {None}


def test_all_against_all(evaluation: dict[str, Any], tmp_path: Path) -> None:
    """c beats both on every prompt; a beats b as above."""
    evaluation["policies"]["c"] = {"outputs": write_rows(tmp_path / "c.json", alpaca_rows("c", ["x" * 9] * 4))}
    figures = evaluate(evaluate_config(evaluation | {"baseline": None}), length).figures
    rates = {(one.policy, one.rival): one.win_rate and one.win_rate.mean for one in figures.pairs}
    assert rates == {("b", "a"): 0.25, ("c", "a"): 1.0, ("c", "b"): 1.0}
    assert [one.policy for one in figures.ratings] == ["c", "a", "b"]
    assert sum(one.strength.mean for one in figures.ratings) == pytest.approx(0.0, abs=1e-6)
    assert all(one.strength.low is None for one in figures.ratings), "4 prompts are too few for intervals of ratings"


def test_it_is_reached_from_python(evaluation: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "evaluate.yaml"
    file.write_text(yaml.safe_dump(evaluation), encoding="utf-8")
    result = seralign.evaluate(seralign.load_evaluate_config(file, {"length_control": False}), length)
    assert isinstance(result, seralign.EvaluationResult)
    assert result.figures.pairs[0].win_rate == share_interval([1.0, 1.0, 0.5, 0.5])


def contents(root: Path) -> dict[Path, bytes]:
    """The files of an evaluation; its store is one of them only while it is unchanged."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.suffix != ".sqlite"}


def test_it_ends_again_with_equal_files_and_asks_nobody(evaluation: dict[str, Any]) -> None:
    asked: list[str] = []

    def counted(prompts: list[str], responses: list[str]) -> list[float]:
        asked.extend(responses)
        return length(prompts, responses)

    root = evaluate(evaluate_config(evaluation), counted).folder
    assert sorted(asked) == ["3 3", "6 6", "one", "one, one", "two", "two, two"], "equal texts are not judged"
    before = contents(root)
    evaluate(evaluate_config(evaluation), counted)
    assert len(asked) == 6
    assert contents(root) == before


# --- a judge that is asked in both orders

ORDERS: dict[str, Any] = {"one, one": [0.9, 0.7], "two, two": [0.6, 0.2]}


def judged(evaluation: dict[str, Any], tmp_path: Path, verdicts: dict[str, Any]) -> dict[str, Any]:
    options = {"verdicts": verdicts, "log": str(tmp_path / "asked.txt")}
    return evaluation | {"judge": "evaluate_files:Scripted", "judge_options": options}


def asked_of(tmp_path: Path) -> list[str]:
    return (tmp_path / "asked.txt").read_text(encoding="utf-8").splitlines()


def test_position_bias_agreement_and_cost(evaluation: dict[str, Any], tmp_path: Path) -> None:
    """The first place gets (.9 + .3) / 2 = .6 and (.6 + .8) / 2 = .7; only the first comparison has the same winner in
    both orders. Each of three verdicts takes two requests; equal texts are not judged."""
    figures = evaluate(evaluate_config(judged(evaluation, tmp_path, ORDERS | {"3 3": None}))).figures
    [pair] = figures.pairs
    assert pair.win_rate is not None
    assert pair.win_rate.mean == pytest.approx((0.8 + 0.4 + 0.5) / 3)
    assert pair.position_bias is not None
    assert pair.position_bias.mean == pytest.approx(0.15)
    assert pair.self_agreement is not None
    assert (pair.self_agreement.mean, pair.self_agreement.n) == (0.5, 2)
    assert (pair.unreadable, pair.failed, pair.equal) == (1, 0, 1)
    # The prompt of the equal texts took nothing.
    assert figures.cost == CostFigures(6, 60, 12, 0, None, Interval(72 / 4, None, None, 4), None)


def test_the_cost_of_a_prompt_has_an_interval_over_prompts(tmp_path: Path) -> None:
    """40 prompts: a quarter have equal outputs and cost nothing, the others 24 tokens, by one judge of two pairings."""
    rows = [{"prompt": f"Say {at}."} for at in range(40)]
    outputs = {
        name: [{"instruction": row["prompt"], "output": name if at % 4 else "same", "generator": name}
               for at, row in enumerate(rows)]
        for name in "ab"
    }  # fmt: skip
    found = evaluate(evaluate_config(judged({
        "out": str(tmp_path / "out"), "prompts": {"path": write_rows(tmp_path / "p.jsonl", rows)}, "baseline": "b",
        "policies": {name: {"outputs": write_rows(tmp_path / f"{name}.json", rows)} for name, rows in outputs.items()},
    }, tmp_path, {}))).figures  # fmt: skip
    used = [0.0 if at % 4 == 0 else 24.0 for at in range(40)]
    assert found.cost is not None
    assert found.cost.tokens_per_prompt == cluster_interval(used, seed=0)
    low, high = found.cost.tokens_per_prompt.low, found.cost.tokens_per_prompt.high
    assert low is not None
    assert high is not None
    assert 14 < low < 18 < high < 22
    [a, b] = found.policies
    assert a.distinct_2 is None, "outputs of one word have no pairs of words"
    assert (a.self_bleu, b.self_bleu) == (1.0, 1.0), "each output has an equal one"


def test_diversity_is_that_of_words(evaluation: dict[str, Any]) -> None:
    """a: (one, one), (two, two), (3 3) and no pair of words in (four); b: only (6 6) has one."""
    [a, b] = evaluate(evaluate_config(evaluation), length).figures.policies
    assert (a.distinct_2, b.distinct_2) == (1.0, 1.0)
    assert (a.self_bleu, b.self_bleu) == (0.0, 0.0), "no output has a word of another"


def test_a_store_is_shared_by_evaluations(evaluation: dict[str, Any], tmp_path: Path) -> None:
    """The same comparisons in another folder are not asked again, with new policies only the new ones are; a third
    folder is a replay. The file does not bind the folder."""
    values: dict[str, Any] = judged(evaluation, tmp_path, ORDERS)
    values |= {"store": str(tmp_path / "shared" / "verdicts.sqlite")}
    first = evaluate(evaluate_config(values)).figures
    assert len(asked_of(tmp_path)) == 3
    assert evaluate(evaluate_config(values | {"out": str(tmp_path / "second")})).figures == first
    assert evaluate(evaluate_config(values | {"out": str(tmp_path / "third")}), replay=True).figures == first
    assert len(asked_of(tmp_path)) == 3
    more = alpaca_rows("c", ["5", "two, two", "7", "8"])
    values["policies"] = values["policies"] | {"c": {"outputs": write_rows(tmp_path / "c.json", more)}}
    evaluate(evaluate_config(values | {"out": str(tmp_path / "fourth")}))
    assert len(asked_of(tmp_path)) == 3 + 3, "one of the comparisons of c is one of a"
    del values["store"], values["policies"]["c"]
    with pytest.raises(StoreError, match="no stored verdict on 3 of 3 comparisons"):
        evaluate(evaluate_config(values), replay=True)
    assert len(asked_of(tmp_path)) == 6


def test_conversations_in_text_are_read_as_such(evaluation: dict[str, Any], tmp_path: Path) -> None:
    """``format: hh``: prompts of text with turns are conversations, for outputs of files too; roles get their names."""
    texts = [f"\n\nHuman: Say {at}.\n\nAssistant: Which?\n\nHuman: That.\n\nAssistant:" for at in range(3)]
    rows: list[dict[str, Any]] = [{"prompt": text} for text in texts]
    rows.append({"prompt": [{"role": "customer", "content": "Hello."}]})
    policies = {
        name: {"outputs": write_rows(tmp_path / f"{name}.jsonl", [row | {"response": name} for row in rows])}
        for name in ("x", "yy")
    }
    values = judged(evaluation, tmp_path, {}) | {
        "prompts": {"path": write_rows(tmp_path / "hh.jsonl", rows)}, "policies": policies, "baseline": "x",
        "format": "hh", "roles": {"customer": "user"},
    }  # fmt: skip
    evaluate(evaluate_config(values))
    asked = (tmp_path / "asked.txt").read_text(encoding="utf-8")
    assert "User: Say 0.\n\nAssistant: Which?\n\nUser: That.|yy|x" in asked
    assert "Human:" not in asked
    assert "\nHello.|yy|x" in asked
    with pytest.raises(ConfigError, match=r"roles\.customer must be one of system"):
        evaluate_config(values | {"roles": {"customer": "buyer"}})


def test_the_agreement_of_a_panel(evaluation: dict[str, Any], tmp_path: Path) -> None:
    """The scorer: first, first, tie. The other: first, second, first. One of three is the same; by chance it would be
    2/3 * 2/3, so kappa is (1/3 - 4/9) / (1 - 4/9)."""
    options = {"verdicts": ORDERS, "log": str(tmp_path / "asked.txt")}
    members = {"scorer": {"judge": "scorer"}, "other": {"judge": "evaluate_files:Scripted", "judge_options": options}}
    values = evaluation | {"judge": "panel", "judge_options": {"judges": members}}
    result = evaluate(evaluate_config(values), length)
    panel = result.figures.panel
    assert panel is not None
    assert panel.pairs == (JudgesFigures(("scorer", "other"), 3, pytest.approx(1 / 3), pytest.approx(-0.2)),)
    assert panel.alpha is not None
    assert panel.alpha < 0.1
    assert "−0.20" in (result.folder / "report.html").read_text(encoding="utf-8")


def test_failed_comparisons_are_asked_again_and_unreadable_ones_are_not(
    evaluation: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = judged(evaluation, tmp_path, ORDERS | {"one, one": None, "3 3": "timeout"})
    [pair] = evaluate(evaluate_config(values)).figures.pairs
    assert (pair.unreadable, pair.failed) == (1, 1)
    assert "no verdict on 2 of 3 comparisons (a against b)" in capsys.readouterr().err
    evaluate(evaluate_config(values))
    assert asked_of(tmp_path) == ["Say 1.|one, one|one", "Say 2.|two, two|two", "Say 3.|3 3|6 6", "Say 3.|3 3|6 6"]


def test_a_judge_that_fails_everywhere(evaluation: dict[str, Any], tmp_path: Path) -> None:
    values = judged(evaluation, tmp_path, dict.fromkeys(["one, one", "two, two", "3 3"], "no connection"))
    says = r"judge: no verdict on 3 of 3 comparisons \(a against b\); 3: no connection"
    with pytest.raises(ConfigError, match=says):
        evaluate(evaluate_config(values))


def test_killed_and_started_again_it_asks_nothing_twice_and_ends_the_same(
    evaluation: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = judged(evaluation, tmp_path, ORDERS)
    evaluation["policies"]["c"] = {"outputs": write_rows(tmp_path / "c.json", alpaca_rows("c", ["5", "6", "7", "8"]))}
    config = evaluate_config(values)
    # The first attempt dies in the first pair of policies, and the second one in the next.
    for place, ends in (("2", False), ("3", False), ("-", True)):
        monkeypatch.setenv("DIE_AT", place)
        assert ends_by_itself(lambda: evaluate(config)) is ends
    asked = asked_of(tmp_path)
    assert len(asked) == len(set(asked)) == 3 + 4
    whole = evaluate(evaluate_config(values | {"out": str(tmp_path / "whole")})).folder
    for name in ("results.json", "comparisons.parquet", "outputs.parquet"):
        assert (Path(values["out"]) / name).read_bytes() == (whole / name).read_bytes()


def test_a_replay_asks_nobody(evaluation: dict[str, Any], tmp_path: Path) -> None:
    config = evaluate_config(judged(evaluation, tmp_path, ORDERS))
    with pytest.raises(StoreError, match=r"no stored verdict on 3 of 3 comparisons \(a against b\)"):
        evaluate(config, replay=True)
    assert not (tmp_path / "asked.txt").exists()
    figures = evaluate(config).figures
    assert evaluate(config, replay=True).figures == figures
    assert len(asked_of(tmp_path)) == 3


def test_a_server_answers_and_judges_and_its_verdicts_are_replayed_without_it(evaluation: dict[str, Any]) -> None:
    """The judge says [[A]] whatever is first, except where only one answer is long."""

    def script(asked: Asked, number: int) -> Scripted:
        if asked.body["model"] == "writer":
            return chat("A long answer. " * (1 if "1" in asked.body["messages"][-1]["content"] else 3))
        question = asked.body["messages"][-1]["content"]
        if "A long answer. A long answer." not in question:
            return chat("[[A]]", 100, 10)
        return chat("[[A]]" if question.index("A long answer.") < question.index("assistant B]") else "[[B]]", 100, 10)

    with fake_server(script) as fake:
        judge = {"url": fake.url, "model": "judge", "parallel": 2, "prices": {"prompt": 1.0, "completion": 2.0}}
        evaluation |= {"judge": "server", "judge_options": judge}
        evaluation["policies"]["a"] = {"server": {"url": fake.url, "model": "writer"}}
        config = evaluate_config(evaluation)
        figures = evaluate(config).figures
        assert len(fake.asked) == 4 + 2 * 4
        assert evaluate(config).figures == figures
        assert len(fake.asked) == 4 + 2 * 4
    assert evaluate(config, replay=True).figures == figures
    [pair] = figures.pairs
    assert pair.win_rate is not None
    assert pair.win_rate.mean == pytest.approx(3.5 / 4)
    assert pair.position_bias is not None
    assert pair.position_bias.mean == pytest.approx(0.5 / 4)
    assert pair.self_agreement is not None
    assert pair.self_agreement.mean == pytest.approx(3 / 4)
    assert figures.cost is not None
    assert (figures.cost.requests, figures.cost.prompt_tokens, figures.cost.completion_tokens) == (8, 800, 80)
    assert figures.cost.money == pytest.approx(8 * 120e-6)
    assert figures.cost.money_per_prompt is not None
    assert figures.cost.money_per_prompt.mean == pytest.approx(2 * 120e-6)
    # Where the server is does not bind the folder.
    elsewhere = evaluation | {"judge_options": judge | {"url": "http://127.0.0.1:9/v1", "parallel": 1}}
    assert evaluate(evaluate_config(elsewhere), replay=True).figures == figures


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 3}, "holds an evaluation of another configuration: seed was 0, now 3"),
        ({"baseline": "a"}, "baseline was 'b', now 'a'"),
    ],
)
def test_the_folder_of_another_evaluation(change: dict[str, Any], message: str, evaluation: dict[str, Any]) -> None:
    evaluate(evaluate_config(evaluation), length)
    with pytest.raises(StoreError, match=message):
        evaluate(evaluate_config(evaluation | change), length)


def test_a_policy_with_the_name_of_a_free_setting_binds_the_folder(evaluation: dict[str, Any]) -> None:
    given = evaluation["policies"]
    evaluate(evaluate_config(evaluation | {"policies": given | {"url": given["a"]}}), length)
    with pytest.raises(StoreError, match=r"policies\.url"):
        evaluate(evaluate_config(evaluation | {"policies": given | {"url": given["b"]}}), length)


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        (
            {"judge": "evaluate_files:Scripted", "judge_options": {"timeout": 1}},
            {"timeout": 2},
            r"judge_options\.timeout",
        ),
        ({"judge": "evaluate_files:Scripted", "judge_options": {"deep": {"url": 1}}}, {"deep": {"url": 2}}, "deep"),
    ],
)
def test_options_of_a_users_judge_bind_the_folder_whatever_their_names(
    before: dict[str, Any], now: dict[str, Any], changed: str, evaluation: dict[str, Any], tmp_path: Path
) -> None:
    values = judged(evaluation, tmp_path, {})
    evaluate(evaluate_config(values | {"judge_options": values["judge_options"] | before}))
    with pytest.raises(StoreError, match=changed):
        evaluate(evaluate_config(values | {"judge_options": values["judge_options"] | now}))


def test_a_judge_of_a_panel_may_be_named_like_a_free_setting(evaluation: dict[str, Any], tmp_path: Path) -> None:
    def values(first: float) -> dict[str, Any]:
        options = {"verdicts": {"one, one": [first, first]}, "log": str(tmp_path / "asked.txt")}
        scripted = {"judge": "evaluate_files:Scripted", "judge_options": options}
        return evaluation | {"judge": "panel", "judge_options": {"judges": {"url": scripted, "b": {"judge": "scorer"}}}}

    evaluate(evaluate_config(values(0.5)), length)
    with pytest.raises(StoreError, match=r"judges\.url"):
        evaluate(evaluate_config(values(0.75)), length)


def test_an_unfinished_evaluation_may_change_its_configuration(
    evaluation: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def no_number(prompts: list[str], responses: list[str]) -> list[float]:
        return [float("nan")] * len(responses)

    with pytest.raises(ConfigError, match="scores must be finite"):
        evaluate(evaluate_config(evaluation | {"seed": 3}), no_number)
    figures = evaluate(evaluate_config(evaluation), length).figures
    told = " ".join(capsys.readouterr().err.split())
    assert "configuration of the unfinished evaluation has changed: seed was 3, now 0" in told
    with pytest.raises(StoreError, match="holds an evaluation of another configuration: seed was 0, now 3"):
        evaluate(evaluate_config(evaluation | {"seed": 3}), length)
    fresh = evaluate(evaluate_config(evaluation | {"out": f"{evaluation['out']}-fresh"}), length).figures
    assert figures == fresh


def test_a_policy_that_is_not_there_names_its_key(evaluation: dict[str, Any]) -> None:
    evaluation["policies"]["a"] = {"model": "/no/such/folder"}
    with pytest.raises(ModelError, match=r"^policies\.a\.model: .*/no/such/folder"):
        evaluate(evaluate_config(evaluation), length)


def test_a_folder_with_something_else(evaluation: dict[str, Any]) -> None:
    Path(evaluation["out"]).mkdir()
    (Path(evaluation["out"]) / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(StoreError, match="is not empty and is not an evaluation"):
        evaluate(evaluate_config(evaluation), length)
    assert [path.name for path in Path(evaluation["out"]).iterdir() if path.name != "lock"] == ["notes.txt"]


def test_a_changed_record_of_the_folder(evaluation: dict[str, Any]) -> None:
    root = evaluate(evaluate_config(evaluation), length).folder
    record = root / "evaluation.json"
    record.write_text(record.read_text(encoding="utf-8").replace('"seed": 0', '"seed": 1'), encoding="utf-8")
    with pytest.raises(StoreError, match=r"evaluation\.json: cannot be read: .*changed since it was written"):
        evaluate(evaluate_config(evaluation), length)


@pytest.mark.real
def test_published_win_rates_of_alpaca_eval(tmp_path: Path) -> None:
    """Outputs of six models, with the published verdicts: win rates are those of the leaderboard, to its digits."""
    if not PUBLISHED.is_dir():
        reason = f"{PUBLISHED} is not here: no published outputs and verdicts"
        print(reason)
        pytest.skip(reason)
    with gzip.open(PUBLISHED / "alpaca_eval_pairs.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    outputs: dict[str, dict[str, str]] = {}
    for row in rows:
        outputs.setdefault("baseline", {})[row["prompt"]] = row["response_a"]
        outputs.setdefault(row["model_b"], {})[row["prompt"]] = row["response_b"]
    policies = {}
    for number, (name, texts) in enumerate(outputs.items()):
        given = [{"instruction": prompt, "output": text, "generator": name} for prompt, text in texts.items()]
        policies[name] = {"outputs": write_rows(tmp_path / f"{number}.json", given)}
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in outputs["baseline"]])
    table = [[row["prompt"], row["response_b"], row["p_b"]] for row in rows]
    config = evaluate_config({
        "out": str(tmp_path / "out"), "prompts": {"path": prompts}, "policies": policies, "baseline": "baseline",
        "judge": "evaluate_files:Known", "judge_options": {"table": write_rows(tmp_path / "table.json", table)},
    })  # fmt: skip
    figures = evaluate(config).figures
    with (PUBLISHED / "alpaca_eval_leaderboard.csv").open(encoding="utf-8") as file:
        board = {row["model"]: row for row in csv.DictReader(file)}
    assert len(figures.pairs) == 6
    for pair in figures.pairs:
        assert pair.win_rate is not None
        assert pair.length_controlled is not None
        published = board[pair.policy]
        assert 100 * pair.win_rate.mean == pytest.approx(float(published["win_rate"]), abs=0.01)
        assert 100 * pair.length_controlled.mean == pytest.approx(float(published["length_controlled_winrate"]), abs=5)


def test_a_store_that_cannot_be_one_is_an_error_before_any_work(evaluation: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    for store, says in (
        ("folder", r"store: .*folder is a folder; give the path of a file, such as .*folder/results\.sqlite"),
        ("missing/", r"store: .*missing/ is a folder; give the path of a file"),
        ("notes.txt/verdicts", r"store: .*notes\.txt is a file, so there can be no .*notes\.txt/verdicts"),
        ("notes.txt", r"notes\.txt: not a store of results .*It was left as it is"),
    ):
        values = evaluation | {"store": f"{tmp_path}/{store}"}
        with pytest.raises(SeralignError, match=says):
            evaluate(evaluate_config(values), length)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "evaluation").exists()
    assert not (tmp_path / "missing").exists()
    assert not (tmp_path / "notes.txt-lock").exists()
