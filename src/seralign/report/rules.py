"""What a warning is made of: what it finds, and what it is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from seralign.report.record import EvaluatedPolicy, RunFigures
from seralign.runs.figures import Metrics


@dataclass(frozen=True)
class Found:
    """A figure beyond its limit: the round, the figure, the limit, a sentence; and advice, where it is special."""

    where: str
    value: float
    limit: float
    text: str
    advice: str = ""


@dataclass(frozen=True)
class Watched:
    """What warnings are made from: the figures of a run, and the lines of ``metrics.jsonl`` by training."""

    figures: RunFigures
    training: Mapping[str, Sequence[Metrics]]

    def pairs(self) -> Iterator[tuple[EvaluatedPolicy, EvaluatedPolicy]]:
        """The policy of each round, where it answered prompts, and the starting policy."""
        start = self.figures.start
        if start is not None:
            yield from ((policy, start) for policy in self.figures.evaluated_rounds if policy.figures.n)

    def rounds(self) -> Iterator[tuple[str, Sequence[Metrics]]]:
        """The metrics of the rounds' trainings, by the round's name."""
        return ((name, rows) for name, rows in self.training.items() if name.startswith("round "))


@dataclass(frozen=True)
class Rule:
    """A warning: its name, its function, its advice, and the advice for supervised training."""

    kind: str
    find: Callable[[Watched], Iterator[Found]]
    advice: str
    supervised: str


def warning(
    rules: list[Rule], kind: str, advice: str, supervised: str = ""
) -> Callable[[Callable[[Watched], Iterator[Found]]], None]:
    """Adds the decorated function to ``rules``."""

    def add(find: Callable[[Watched], Iterator[Found]]) -> None:
        rules.append(Rule(kind, find, advice, supervised or advice))

    return add
