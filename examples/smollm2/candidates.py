"""Sampled answers, and what the checks make of them: demonstrations and preference pairs.

Answers are sampled by ``seralign sample``, which resumes if it is killed. A file that exists is not sampled again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.smollm2.prompts import Message, Task
from examples.smollm2.writing import statements, write
from seralign.cli.main import main as seralign
from seralign.errors import DataError
from seralign.runs.files import write_atomic


@dataclass(frozen=True)
class Answer:
    """An answer to a task.

    Args:
        text: The answer.
        degree: How far it follows the instruction, as ``checks`` finds it.
        source: Where it is from: ``plain``, ``shown`` or ``tuned``, a file of samples, or ``written``, the program.
        finished: Whether it ended within the length limit.
    """

    text: str
    degree: float
    source: str
    finished: bool = True

    @property
    def passes(self) -> bool:
        """Whether it follows the instruction, and ended."""
        return self.finished and self.degree == 1.0


# The answer that is preferred, and the other one.
Pair = tuple[Answer, Answer]


@dataclass(frozen=True)
class Sampling:
    """How answers are sampled."""

    samples: int
    temperature: float
    max_new_tokens: int
    batch_size: int
    seed: int


def command(*arguments: str) -> None:
    """Run a command of seralign, which prints its own errors; exit with its status if it fails."""
    if status := seralign(list(arguments)):
        sys.exit(status)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write lines of JSON, in whole or not at all.

    Raises:
        DataError: the file exists with other rows.
    """
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if path.exists():
        if path.read_text(encoding="utf-8") != text:
            raise DataError(f"{path}: was made with other settings or by other code; delete its folder to begin anew")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda part: part.write_text(text, encoding="utf-8"))


def sample(
    policy: str, prompts: Sequence[list[Message]], tasks: Sequence[Task], file: Path, how: Sampling
) -> list[list[Answer]]:
    """Sample answers of a policy, and check them.

    Args:
        policy: The folder of a run, or of a model.
        prompts: What the policy reads.
        tasks: What the answers are judged by, one for each prompt.
        file: The answers are written here, the prompts beside it.
        how: Settings of the sampling.

    Returns:
        The answers to each task, without repetitions; their source is the name of the file.
    """
    asked = file.with_name(f"{file.stem}-prompts.jsonl")
    write_rows(asked, ({"prompt": prompt} for prompt in prompts))
    if not file.exists():
        flags = {"--prompts": asked, "--out": file, "--samples": how.samples, "--temperature": how.temperature,
                 "--max_new_tokens": how.max_new_tokens, "--batch_size": how.batch_size,
                 "--seed": how.seed}  # fmt: skip
        command("sample", policy, *(str(part) for flag in flags.items() for part in flag))
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    found = []
    for task, row in zip(tasks, rows, strict=True):
        texts = {one["text"].strip(): one["finished"] for one in row["responses"]}
        degree = task.instruction.degree
        found.append([Answer(text, degree(text), file.stem, ended) for text, ended in texts.items() if text])
    return found


def written(task: Task, answers: Sequence[Answer]) -> list[Answer]:
    """An answer that a program writes from statements in the model's own answers; none if there are too few."""
    facts = list(dict.fromkeys(fact for answer in answers for fact in statements(answer.text)))
    text = write(task.instruction, facts)
    return [] if text is None else [Answer(text, task.instruction.degree(text), "written")]


def demonstrations(
    tasks: Sequence[Task], plain: Sequence[list[Answer]], shown: Sequence[list[Answer]]
) -> list[Answer | None]:
    """The first answer to each task that passes: to the prompt itself, to the one that shows how, or the program's."""
    found = []
    for task, own, helped in zip(tasks, plain, shown, strict=True):
        answers = [*own, *helped, *written(task, [*own, *helped])]
        found.append(next((answer for answer in answers if answer.passes), None))
    return found


def start_pairs(sampled: Sequence[list[Answer]], demonstrated: Sequence[Answer | None]) -> list[list[Pair]]:
    """The pair (demonstration, first answer that fails) of each task, for supervised training.

    It trains on the chosen answer alone, so the other one may be unfinished.
    """
    found = []
    for answers, demonstration in zip(sampled, demonstrated, strict=True):
        bad = next((answer for answer in answers if not answer.passes), None)
        found.append([(demonstration, bad)] if demonstration is not None and bad is not None else [])
    return found


def pairs(sampled: Sequence[list[Answer]], demonstrated: Sequence[Answer | None], most: int = 2) -> list[list[Pair]]:
    """Pairs of each task, at most ``most``: answers that pass over answers that fail.

    If no sampled answer passes, the demonstration is the chosen one. Unfinished answers make no pair: a pair has an end
    token after both answers.
    """
    found = []
    for answers, demonstration in zip(sampled, demonstrated, strict=True):
        good = [answer for answer in answers if answer.passes]
        bad = [answer for answer in answers if answer.finished and not answer.passes]
        if not good and demonstration is not None:
            good = [demonstration]
        count = min(most, max(len(good), len(bad))) if good and bad else 0
        found.append([(good[number % len(good)], bad[number % len(bad)]) for number in range(count)])
    return found


def pair_rows(tasks: Sequence[Task], made: Sequence[list[Pair]]) -> list[dict[str, Any]]:
    """Rows of pairs for seralign. The nearer the rejected answer comes to passing, the nearer ``p`` is to one half."""
    return [
        {"prompt": task.messages, "chosen": _said(chosen), "rejected": _said(rejected), "p": 1 - rejected.degree / 2,
         "kind": task.kind, "chosen_from": chosen.source}
        for task, of_task in zip(tasks, made, strict=True)
        for chosen, rejected in of_task
    ]  # fmt: skip


def _said(answer: Answer) -> list[Message]:
    return [{"role": "assistant", "content": answer.text}]
