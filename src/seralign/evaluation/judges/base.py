"""The contract between an evaluation and what decides which of two answers is better."""

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
    """What a judge says to a comparison.

    Args:
        first_better: Probability in [0, 1] that the first response is the better one: 1, 0, 0.5 for a tie, or what lies
            between. None: no verdict, the comparison counts for nothing.
        scores: Of the first and of the second response, where the judge scores them.
        explanation: In the judge's words.
        error: Why there is no verdict where asking failed. Such a comparison is asked again when the stage is.
    """

    first_better: float | None
    scores: tuple[float, float] | None = None
    explanation: str | None = None
    error: str | None = None


class Judge(Protocol):
    """Decides which of two responses is better: comparisons in, verdicts out.

    A judge is a class, or a function, that is called with ``(options, key, scorer)``: ``evaluation.judge_options``, the
    name ``evaluation.judge`` for messages, and the run's scorer, None without one. It is called once, at the start of a
    run: what it cannot honour is refused there with a ``ConfigError`` that begins with the key. It reaches for nothing
    yet.

    ``identity`` names everything about the judge that its verdicts depend on: its name and version, the model that it
    asks, its instructions. Verdicts of one identity are not taken for those of another.

    Verdicts are stored by the identity, the prompt and both responses, so the same comparison is never asked twice. The
    main process alone asks.
    """

    @property
    def identity(self) -> str: ...

    def judge(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[Comparison, Verdict]]:
        """Decide each comparison once, and yield it with its verdict as soon as it is there, in any order.

        Each verdict is stored when it is yielded. A slow or asynchronous judge takes as many comparisons as it can have
        under way. A judge that minds which response comes first asks both ways and yields the mean.

        Args:
            comparisons: What to decide, all different.

        Raises:
            SeralignError: what the user can mend. Anything else that a judge named as ``module:class`` raises is shown
                as its failure. What was yielded before is kept.
        """
        ...


MakeJudge = Callable[[dict[str, Any], str, StoredScorer | None], Judge]
