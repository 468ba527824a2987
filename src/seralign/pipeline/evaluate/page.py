"""What the page of an evaluation shows of its prompts, outputs and verdicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from seralign.config.evaluate import EvaluateConfig
from seralign.config.load import plain_values
from seralign.pipeline.evaluate.comparisons import Pairing
from seralign.pipeline.evaluate.outputs import Outputs
from seralign.pipeline.evaluate.prompts import Question
from seralign.report.evaluation_page import ShownOutput, ShownPrompt, ShownVerdict
from seralign.tables import Table


def shown_prompts(
    questions: Sequence[Question], outputs: Sequence[Outputs], pairings: Sequence[Pairing]
) -> list[ShownPrompt]:
    """Each prompt with its outputs and verdicts."""
    verdicts: dict[str, list[ShownVerdict]] = {}
    for number, pairing in enumerate(pairings):
        for one in pairing.compared:
            found = one.verdict
            text = found.error or found.unreadable or found.explanation
            shown = ShownVerdict(number, found.first_better, found.orders, found.scores, text, one.equal)
            verdicts.setdefault(one.question.prompt.prompt_id, []).append(shown)
    return [
        ShownPrompt(
            question.prompt.text,
            tuple(
                None if answer is None else ShownOutput(answer.text, answer.finished, answer.tokens)
                for answer in (one.answers[place] for one in outputs)
            ),
            tuple(verdicts.get(question.prompt.prompt_id, ())),
        )
        for place, question in enumerate(questions)
    ]


def configuration_table(config: EvaluateConfig) -> Table:
    """The keys of the configuration with their values."""
    rows: list[tuple[str, str]] = []

    def add(values: dict[str, Any], prefix: str) -> None:
        for key, value in values.items():
            if isinstance(value, dict) and value:
                add(value, f"{prefix}{key}.")
            else:
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                rows.append((f"{prefix}{key}", text))

    add(plain_values(config), "")
    return Table("The configuration with all defaults", ("key", "value"), tuple(rows))
