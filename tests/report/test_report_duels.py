"""Runs head to head: paired by prompt, with an interval over prompts."""

from __future__ import annotations

from dataclasses import replace

from synthetic import synthetic_run

from seralign.report.answers import Answer, Answers
from seralign.report.compare import cautions, comparison, differences
from seralign.report.contents import RunContents
from seralign.report.duels import duels


def scored(name: str, scores: dict[str, float]) -> RunContents:
    answers = tuple((Answer("a", 1, True, score),) for score in scores.values())
    return replace(
        synthetic_run(60, name=name), answers=Answers(("round 1",), 0, len(scores), tuple(scores), answers, True)
    )


def test_the_same_prompts_are_compared_in_any_order() -> None:
    """Of p, q, r, s the first wins two, ties one and loses one: 2.5 of 4."""
    first = scored("a", {"p": 2.0, "q": 2.0, "r": 1.0, "s": 0.0})
    table, notes = duels([first, scored("b", {"s": 1.0, "r": 1.0, "q": 1.0, "p": 1.0})])
    assert notes == []
    assert table is not None
    assert [(row[0], row[1].split(" ")[0], row[2]) for row in table.rows] == [
        ("a against b", "62.5%", "4"), ("b against a", "37.5%", "4"),
    ]  # fmt: skip
    table, (note,) = duels([first, scored("b", {"p": 1.0, "z": 9.0})])
    assert table is not None
    assert table.rows[0] == ("a against b", "100.0% (20.7 to 100.0)", "1")
    assert "a and b share 1 of their 4 and 2 held-out prompts" in note
    assert duels([first, scored("b", {"z": 1.0})])[0] is None
    assert duels([first, replace(first, name="b", answers=None)]) == (None, [])


def test_null_and_its_default_are_no_difference_and_figures_have_intervals() -> None:
    one = synthetic_run(60, name="a")
    config = one.config | {
        "objective": {"name": "dpo", "weight": 1.0, "beta": 0.1},
        "stop": one.config["stop"] | {"min_gain": None},
        "training": one.config["training"] | {"epochs": None},
    }
    config["data"] = config["data"] | {"max_prompt_length": 384}
    config["evaluation"] = config["evaluation"] | {"max_new_tokens": 256}
    other = replace(one, name="b", config=config)
    assert differences([one, other]).rows == ()
    lora = replace(other, config=config | {"policy": config["policy"] | {"lora": {"r": 8}}})
    keys = [row[0] for row in differences([one, lora]).rows]
    assert "policy.lora.r" in keys
    assert "policy.lora" not in keys, "null against keys below it"
    beta = replace(other, config=config | {"objective": {"name": "dpo", "weight": 1.0, "beta": 0.2}})
    assert [row[0] for row in differences([one, beta]).rows] == ["objective.beta"]
    simpo = [
        {"objective": {"name": "simpo", "weight": 1.0, **given}} for given in ({"target_margin": 1.0}, {"beta": 2.0})
    ]
    assert differences([replace(one, config=config | own) for own in simpo]).rows == ()
    figures = {row[0]: row[1] for row in comparison([one, other]).rows}
    assert figures["Held-out accuracy"] == "65.0% (57.0% to 73.0%)"
    assert figures["Score"] == "0.300 (0.250 to 0.350)"


def test_runs_with_different_judges_are_named() -> None:
    """Wins hang on the judge, and on the scorer only where it is the judge."""

    def with_keys(run: RunContents, **keys: object) -> RunContents:
        return replace(run, config=run.config | {"evaluation": run.config["evaluation"] | keys})

    def marked(*runs: RunContents) -> list[str]:
        return [row[0] for row in comparison(runs).rows if row[0].endswith(" *")]

    one, other = synthetic_run(name="a"), synthetic_run(name="b", seed=1)
    paid = [with_keys(run, judge="m:Judge", judge_options={"model": "x"}) for run in (one, other)]
    assert cautions(paid) == []
    assert cautions([one, with_keys(other, judge="scorer")]) == []
    told = ["Wins come from different judges (evaluation.judge, evaluation.judge_options): they cannot be compared."]
    assert cautions([one, paid[1]]) == told
    assert cautions([paid[0], with_keys(paid[1], judge_options={"model": "y"})]) == told
    assert marked(one, paid[1]) == ["Wins against sft *"]
    scored = [with_keys(run, scorer=f"m:{run.name}") for run in paid]
    (said,) = cautions(scored)
    assert said == "Scores come from different scorers (evaluation.scorer, world): they cannot be compared."
    assert marked(*scored) == ["Score *"]
