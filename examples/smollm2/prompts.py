"""Prompts made by code: every topic with every kind of instruction.

The topics of the held-out prompts are in no prompt that is trained on. Some kinds of instruction are held out too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from examples.smollm2.checks import KINDS, Instruction, Kind
from examples.smollm2.topics import DEMONSTRATED, TOPICS
from examples.smollm2.writing import write
from seralign.errors import ConfigError

Message = dict[str, str]


@dataclass(frozen=True)
class Task:
    """A prompt: a question, a sentence with an instruction, and what the instruction asks for."""

    question: str
    phrasing: str
    instruction: Instruction

    @property
    def kind(self) -> str:
        """Name of the kind of instruction."""
        return self.instruction.kind.name

    @property
    def text(self) -> str:
        """The prompt as text."""
        return f"{self.question} {self.phrasing.format(**self.instruction.parameters)}"

    @property
    def messages(self) -> list[Message]:
        """The prompt as a conversation."""
        return [{"role": "user", "content": self.text}]

    @property
    def shown(self) -> list[Message]:
        """The prompt after two turns that follow the same instruction on other topics.

        It helps a model that cannot follow the instruction otherwise. Its answers are used as answers to ``messages``.

        Raises:
            ConfigError: no rule of ``writing`` follows this kind of instruction.
        """
        turns: list[Message] = []
        for question, keyword, facts in DEMONSTRATED:
            example = replace(self, question=question, instruction=_about(self.instruction, keyword))
            answer = write(example.instruction, facts)
            if answer is None:
                raise ConfigError(f"writing.py: no rule writes an answer of the kind {self.kind!r}; add one to _RULES")
            turns += [*example.messages, {"role": "assistant", "content": answer}]
        return [*turns, *self.messages]


def tasks(train_topics: int, heldout_topics: int) -> tuple[list[Task], list[Task]]:
    """Prompts to train on, and held-out prompts, which have kinds of instruction that the others have not.

    Args:
        train_topics: Number of topics to train on, from the start of ``TOPICS``.
        heldout_topics: Number of held-out topics, from its end.

    Raises:
        ValueError: there are not as many topics.
    """
    if min(train_topics, heldout_topics) < 1 or train_topics + heldout_topics > len(TOPICS):
        raise ValueError(
            f"there are {len(TOPICS)} topics, got {train_topics} to train on and {heldout_topics} held out"
        )
    train, heldout = TOPICS[:train_topics], TOPICS[-heldout_topics:]
    seen = [kind for kind in KINDS if not kind.unseen]
    return _made(train, seen), _made(heldout, KINDS)


def _made(topics: Sequence[tuple[str, str]], kinds: Sequence[Kind]) -> list[Task]:
    return [_task(question, keyword, kind) for question, keyword in topics for kind in kinds]


def _task(question: str, keyword: str, kind: Kind) -> Task:
    # The same prompts in every run: the seed of a run draws answers, not prompts.
    draw = random.Random(f"{question} {kind.name}")
    phrasing = draw.choice(kind.phrasings)
    parameters = {name: draw.choice(values) for name, values in kind.values.items()}
    if "{keyword}" in phrasing:
        parameters["keyword"] = keyword
    return Task(question, phrasing, Instruction(kind, parameters))


def _about(instruction: Instruction, keyword: str) -> Instruction:
    """The instruction with another keyword, if it has one."""
    given = instruction.parameters
    return replace(instruction, parameters=given | {"keyword": keyword} if "keyword" in given else given)
