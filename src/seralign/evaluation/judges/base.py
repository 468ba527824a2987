"""The contract of judges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from seralign.records import Prompt
from seralign.servers.usage import Usage


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
        orders: The same probability when the first response was shown first, and when it was shown second, if the
            judge was asked in both orders. ``first_better`` is their mean.
        unreadable: What the judge answered, if no verdict could be read from it. Such a verdict is stored like any
            other.
        members: The probability by each judge of a panel; None where a judge has no verdict.
        usage: Requests and tokens that the verdict took, if a server gave it.
    """

    first_better: float | None
    scores: tuple[float, float] | None = None
    explanation: str | None = None
    error: str | None = None
    orders: tuple[float, float] | None = None
    unreadable: str | None = None
    members: tuple[float | None, ...] | None = None
    usage: Usage | None = None

    def to_json(self) -> dict[str, Any]:
        """As a JSON value."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Verdict:
        """The inverse of ``to_json``."""
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        usage = values["usage"]
        return Verdict(**{**values, **lists, "usage": None if usage is None else Usage(**usage)})

    def turned(self) -> Verdict:
        """The verdict on the same two responses in the other order."""
        scores, orders, members = self.scores, self.orders, self.members
        return replace(
            self,
            first_better=None if self.first_better is None else 1 - self.first_better,
            scores=None if scores is None else (scores[1], scores[0]),
            orders=None if orders is None else (1 - orders[1], 1 - orders[0]),
            members=None if members is None else tuple(None if one is None else 1 - one for one in members),
        )


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
