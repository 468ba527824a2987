"""The contract of judges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from seralign.evaluation.scores import StoredScorer
from seralign.records import Prompt


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two responses to a prompt, as texts. ``prompt.text`` is the prompt as the model reads it."""

    prompt: Prompt
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a judge on a comparison.

    Args:
        first_better: Probability in [0, 1] that the first response is better; 0.5 for a tie. None if there is no
            verdict; the comparison is then ignored.
        scores: Scores of the first and the second response, if the judge has them.
        explanation: Explanation by the judge.
        error: Why there is no verdict, if the request failed. Such a comparison is judged again when the stage runs
            again.
    """

    first_better: float | None
    scores: tuple[float, float] | None = None
    explanation: str | None = None
    error: str | None = None


class Judge(Protocol):
    """Decides which of two responses is better: comparisons in, verdicts out.

    A judge is a class (or a function) that is called with ``(options, key, scorer)``: ``evaluation.judge_options``, the
    name ``evaluation.judge`` for messages, and the scorer of the run, or None if there is none. It is called once, at
    the start of the run. It must not connect to anything yet. If it does not support an option, it raises a
    ``ConfigError`` that begins with the key.

    ``identity`` names everything about the judge that its verdicts depend on: its name and version, the model that it
    uses, and its instructions. Stored verdicts are only used for the same identity.

    Verdicts are stored by identity, prompt and both responses, so the same comparison is never judged twice. Only the
    main process calls the judge.
    """

    @property
    def identity(self) -> str: ...

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        """Decide each comparison once, and yield it with its verdict as soon as it is available, in any order.

        Each verdict is stored when it is yielded. A slow or asynchronous judge may take several comparisons before it
        yields the first verdict. A judge whose verdict depends on the order of the responses should judge both orders
        and yield the mean.

        Args:
            comparisons: The comparisons, all different.

        Raises:
            SeralignError: an error that the user can fix. Other exceptions of a judge named as ``module:class`` are
                reported as errors of this class. Verdicts that were yielded before are kept.
        """
        ...


MakeJudge = Callable[[dict[str, Any], str, StoredScorer | None], Judge]
