"""A judge that compares two responses at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

from seralign.evaluation.judges import Comparison, Judge, make_judge
from seralign.evaluation.scorer import load_scorer
from seralign.evaluation.scores import StoredScorer
from seralign.evaluation.win_rates import decide
from seralign.preferences.groups import Group
from seralign.preferences.opinions import Ballot, Compared, Opinion
from seralign.preferences.signals.texts import prompt_text, response_texts
from seralign.records import Prompt, content_id
from seralign.runs.results import Results


@dataclass(frozen=True)
class JudgeSignal:
    """Verdicts of a judge on every two responses to a prompt; p is the judge's probability.

    Args:
        judge: As ``evaluation.judge``: the name of a judge, or ``module:class`` of your own.
        judge_options: Settings of the judge, as ``evaluation.judge_options``.
        scorer: ``module:function`` for a judge that needs a scorer.
    """

    judge: str
    judge_options: dict[str, Any] = field(default_factory=dict)
    scorer: str | None = None
    temperature: ClassVar[None] = None

    def __post_init__(self) -> None:
        self._judge(Results(Path()))

    @property
    def identity(self) -> str:
        """That of the judge."""
        return self._judge(Results(Path())).identity

    def ask(self, groups: Sequence[Group], results: Results) -> list[Opinion]:
        """The verdicts on every two responses of each group. Equal texts are not compared.

        Raises:
            ConfigError: The judge fails, or gives no verdict at all.
        """
        asked: list[tuple[int, int, int, Comparison]] = []
        for number, group in enumerate(groups):
            prompt, texts = prompt_text(group), response_texts(group)
            record = Prompt(content_id(prompt), prompt, ())
            for first, second in combinations(range(len(texts)), 2):
                if texts[first] != texts[second]:
                    asked.append((number, first, second, Comparison(record, texts[first], texts[second])))
        verdicts = (
            decide(self._judge(results), [one[-1] for one in asked], results, "candidates", "judge") if asked else []
        )
        ballots: list[list[Ballot]] = [[] for _ in groups]
        missing = [0] * len(groups)
        for (number, first, second, _), verdict in zip(asked, verdicts, strict=True):
            if verdict.first_better is None:
                missing[number] += 1
            else:
                ballots[number].append(Ballot(first, second, verdict.first_better))
        return [
            Compared(tuple(own), ("no verdict of the judge",) * none)
            for own, none in zip(ballots, missing, strict=True)
        ]

    def _judge(self, results: Results) -> Judge:
        scorer = None if self.scorer is None else StoredScorer(load_scorer(self.scorer, "scorer"), results)
        return make_judge(self.judge, self.judge_options, scorer, "judge", results)
