"""The answers to the same prompts: what is read of a run, and what fits into the page."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hand_made import add_stage, new_run

from seralign.errors import StoreError
from seralign.report.answers import Answer, Answers, Judged, PackedAnswers, pack_answers, read_answers
from seralign.report.record import EvaluatedPolicy, RunFigures
from seralign.runs import Run
from seralign.runs.figures import EvaluateFigures, ResultFigures


def samples(run: Run, role: str, rows: list[tuple[str, str, list[int], bool]], scores: list[float] | None) -> None:
    """An evaluation whose rows are prompt, text, token ids and whether the answer ended."""
    columns: dict[str, Any] = {
        "prompt_id": [f"id of {prompt}" for prompt, *_ in rows],
        "prompt": [prompt for prompt, *_ in rows],
        "text": [text for _, text, *_ in rows],
        "ids": pa.array([ids for *_, ids, _ in rows], pa.list_(pa.int32())),
        "finished": [finished for *_, finished in rows],
    }
    columns |= {} if scores is None else {"score": scores}
    add_stage(run, f"{role}/evaluate", EvaluateFigures(role, n=len(rows)), {"samples.parquet": columns})


def policy(role: str, n: int = 2, name: str | None = None) -> EvaluatedPolicy:
    return EvaluatedPolicy(role, EvaluateFigures(name or role, n=n))


def figures(*policies: EvaluatedPolicy, result: str = "") -> RunFigures:
    ended = ResultFigures(result, "", "", {}, "float32", None, None)
    return RunFigures("run", "dpo", policies=policies, result=ended if result else None)


def test_each_prompt_has_the_answer_of_every_policy_whatever_the_order_of_their_rows(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    samples(run, "initial", [("p", "one", [1, 2], True), ("q", "two", [3], False)], [0.5, 1.0])
    samples(run, "round-1", [("q", "four", [4, 5, 6], True), ("p", "", [], True)], [2.0, -1.0])
    samples(run, "baseline", [("p", "five", [1], True)], [0.0])
    order = [policy("initial", name="sft"), policy("baseline", 1, "dpo"), policy("round-1", name="round 1")]
    found = read_answers(run, figures(*order, result="round 1"))
    assert found == Answers(
        policies=("sft", "round 1", "dpo alone, as many steps"),
        result=1,
        total=2,
        prompts=("p", "q"),
        answers=(
            (Answer("one", 2, True, 0.5), Answer("", 0, True, -1.0), Answer("five", 1, True, 0.0)),
            (Answer("two", 1, False, 1.0), Answer("four", 3, True, 2.0), None),
        ),
        scored=True,
    )


def test_each_answer_has_the_verdicts_on_it(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    samples(run, "initial", [("p", "one", [1], True)], None)
    columns: dict[str, Any] = {
        "prompt_id": ["id of p", "id of p"],
        "rival": ["sft", "gone"],
        "first_better": [0.7, 0.1],
        "orders": pa.array([[0.9, 0.5], None], pa.list_(pa.float64())),
        "explanation": ["Clear.", None],
        "error": pa.array([None, None], pa.string()),
        "unreadable": pa.array([None, None], pa.string()),
    }
    rows = {"prompt_id": ["id of p"], "prompt": ["p"], "text": ["two"], "ids": pa.array([[2]], pa.list_(pa.int32())),
            "finished": [True]}  # fmt: skip
    tables = {"samples.parquet": rows, "verdicts.parquet": columns}
    add_stage(run, "round-1/evaluate", EvaluateFigures("round 1", n=1), tables)
    found = read_answers(run, figures(policy("initial", 1, "sft"), policy("round-1", 1, "round 1")))
    assert found is not None
    assert found.answers == (
        (Answer("one", 1, True, None), Answer("two", 1, True, None, (Judged(0, 0.7, (0.9, 0.5), "Clear."),))),
    )
    block = pack_answers(found, 10_000).block
    content = json.loads(gzip.decompress(base64.b64decode(block)))
    assert content["answers"][0][1] == ["two", 0, 1, True, None, [[0, 0.7, [0.9, 0.5], "Clear."]]]


def test_a_run_without_answers_or_scores(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    assert read_answers(run, figures()) is None
    assert read_answers(run, figures(policy("initial", 0))) is None
    samples(run, "initial", [("p", "one", [1], True)], None)
    found = read_answers(run, figures(policy("initial", 1)))
    assert found is not None
    assert (found.scored, found.result, found.answers[0][0]) == (False, None, Answer("one", 1, True, None))


def test_a_damaged_table_is_one_clear_error(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    samples(run, "initial", [("p", "one", [1], True)], None)
    run.path("initial/evaluate", "samples.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"samples\.parquet"):
        read_answers(run, figures(policy("initial", 1)))


def test_at_most_500_prompts_are_read_evenly(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    samples(run, "initial", [(f"p{at}", "a", [1], True) for at in range(1000)], None)
    found = read_answers(run, figures(policy("initial", 1000)))
    assert found is not None
    assert (found.total, len(found.prompts), found.prompts[:2], found.prompts[-1]) == (1000, 500, ("p0", "p2"), "p998")


def many(prompts: int, characters: int) -> Answers:
    """Texts that hardly compress."""
    import random

    rng = random.Random(0)
    texts = ["".join(chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(characters)) for _ in range(prompts)]
    answers = tuple((Answer(text, 5, True, 1.5), None) for text in texts)
    return Answers(("a", "b"), 1, prompts, tuple(f"prompt {at}" for at in range(prompts)), answers, True)


def content(packed: PackedAnswers) -> dict[str, Any]:
    return json.loads(gzip.decompress(base64.b64decode(packed.block)))


def test_what_fits_is_whole() -> None:
    answers = many(3, 50)
    packed = pack_answers(answers, 10_000)
    assert packed.header == {
        "policies": ("a", "b"), "result": 1, "scored": True, "prompts": 3, "total": 3, "cut": 0, "longest": 10**9,
        "template": {"start": 7, "end": 0},
    }  # fmt: skip
    (first, _, _) = content(packed)["answers"]
    whole = answers.answers[0][0]
    assert whole is not None
    assert first == [[whole.text, 0, 5, True, 1.5, []], None]
    assert content(packed)["prompts"][2] == ["prompt 2", 0]


@pytest.mark.parametrize(
    ("most", "prompts", "longest"), [(90_000, 20, 1500), (20_000, 20, 300), (10_000, 10, 300), (10, 0, 300)]
)
def test_what_does_not_fit_is_cut_first_and_then_left_out(most: int, prompts: int, longest: int) -> None:
    packed = pack_answers(many(20, 2000), most)
    assert (packed.header["prompts"], packed.header["longest"], packed.header["total"]) == (prompts, longest, 20)
    assert packed.header["cut"] == prompts, "an answer of each prompt"
    assert len(packed.block) <= most or prompts == 0
    texts = [row[0] for row in content(packed)["answers"]]
    assert all((len(text), lost) == (longest, 2000 - longest) for text, lost, *_ in texts)
