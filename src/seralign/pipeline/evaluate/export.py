"""Outputs and verdicts in the formats that alpaca_eval reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seralign.pipeline.evaluate.comparisons import Compared, Pairing
from seralign.pipeline.evaluate.outputs import Outputs
from seralign.pipeline.evaluate.prompts import Question
from seralign.runs.files import write_json

FOLDER = "alpaca_eval"
MODEL_OUTPUTS = "model_outputs.json"


def export(
    root: Path, pairings: Sequence[Pairing], outputs: Sequence[Outputs], questions: Sequence[Question], annotator: str
) -> None:
    """Write ``alpaca_eval/POLICY/model_outputs.json`` and ``annotations_RIVAL.json`` for each policy and rival.

    Args:
        root: Folder of the evaluation.
        pairings: All comparisons.
        outputs: The outputs of all policies. Prompts without an output are left out.
        questions: The prompts.
        annotator: Name of the judge in the annotations.
    """
    for one in outputs:
        rows = [
            {"instruction": question.prompt.text, "output": answer.text, "generator": one.name}
            for question, answer in zip(questions, one.answers, strict=True)
            if answer is not None
        ]
        _write(root / FOLDER / one.name / MODEL_OUTPUTS, rows)
    for pairing in pairings:
        rows = [_annotation(pairing, compared, annotator) for compared in pairing.compared]
        _write(root / FOLDER / pairing.policy / f"annotations_{pairing.rival}.json", rows)


def _annotation(pairing: Pairing, compared: Compared, annotator: str) -> dict[str, Any]:
    """A row of annotations: the rival is 1 and the policy is 2, and preference 2 says that the policy is better."""
    better = compared.verdict.first_better
    return {
        "instruction": compared.question.prompt.text,
        "output_1": compared.theirs.text,
        "generator_1": pairing.rival,
        "output_2": compared.own.text,
        "generator_2": pairing.policy,
        "annotator": annotator,
        "preference": None if better is None else 1 + better,
    }


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, rows)
