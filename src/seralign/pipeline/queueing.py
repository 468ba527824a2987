"""Generated pairs that wait in a queue for labels: the run ends after the queue is written, and resumes with labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa

from seralign import distributed
from seralign.pipeline.comparing import prompts_by_id
from seralign.pipeline.context import Loop
from seralign.preferences.queue import Asked, QueueLabels, complete, write_queue
from seralign.records import Pair, Prompt, content_id
from seralign.rewards.pairing import Contrast
from seralign.runs.files import read_table, write_table
from seralign.runs.layout import LABELS, QUERIED, QUEUES, round_name

_KEY = "bootstrap.allow_partial"


def labelled(
    loop: Loop,
    index: int,
    folder: Path,
    prompts: datasets.Dataset,
    candidates: pa.Table,
    rewards: np.ndarray,
    found: Sequence[Contrast],
    choose: Callable[[], Sequence[Contrast]],
) -> tuple[list[Contrast], Counter[str]]:
    """The pairs with the labels of the round's queue, ``labels/round-2.jsonl`` in the run.

    What is asked about is written once, so that a run that resumes asks about the same pairs.

    Args:
        loop: The run.
        index: The round.
        folder: Of the stage.
        prompts: Prompts of the round.
        candidates: All candidates, whose rows the pairs name.
        rewards: Rewards of all candidates [N].
        found: All pairs.
        choose: Gives those to ask about.

    Returns:
        Pairs with p in (0.5, 1], and the numbers of pairs that are ``not asked about``, a ``tie``, ``skipped`` or
        ``without a label``.

    Raises:
        AwaitingLabels: Pairs have no label yet.
        DataError: A row of the queue is wrong; names it.
    """
    if not distributed.broadcast((folder / QUERIED).is_file()):
        _write_queried(folder / QUERIED, choose(), candidates, loop.seed(round_name(index), "queue"))
    queried = read_table(folder / QUERIED).to_pylist()
    labels = _labels(loop, index, queried, prompts, candidates) if distributed.is_main() else None
    labels = distributed.broadcast(labels)
    assert labels is not None
    if distributed.is_main():
        names = [row["pair_id"] for row in queried]
        write_table(folder / LABELS, {"pair_id": names, "p": pa.array(map(labels.p.get, names), pa.float64())})
    made = [
        _made(row, labels.p[row["pair_id"]], rewards) for row in queried if labels.p.get(row["pair_id"], 0.5) != 0.5
    ]
    return made, +Counter({"not asked about": len(found) - len(queried)} | labels.undecided)


def _write_queried(path: Path, pairs: Sequence[Contrast], candidates: pa.Table, seed: int) -> None:
    if distributed.is_main():
        turned = np.random.default_rng(seed).random(len(pairs)) < 0.5
        both = [one.rows[::-1] if turn else one.rows for one, turn in zip(pairs, turned, strict=True)]
        texts = candidates["text"]
        write_table(
            path,
            {
                "pair_id": [
                    content_id([one.prompt_id, *(texts[row].as_py() for row in rows)])
                    for one, rows in zip(pairs, both, strict=True)
                ],
                "prompt_id": [one.prompt_id for one in pairs],
                "rows": both,
            },
        )
    distributed.barrier()


def _labels(
    loop: Loop, index: int, queried: Sequence[Mapping[str, object]], prompts: datasets.Dataset, candidates: pa.Table
) -> QueueLabels:
    path = loop.run.root / QUEUES / f"{round_name(index)}.jsonl"
    by_id = prompts_by_id(prompts)
    asked = [_asked(row, by_id[str(row["prompt_id"])], candidates) for row in queried]
    if not asked:
        return QueueLabels({}, (), ())
    if not path.exists():
        write_queue(path, asked)
    config = loop.config.bootstrap
    return complete(path, asked, config is not None and config.allow_partial, _KEY)


def _asked(row: Mapping[str, object], prompt: Prompt, candidates: pa.Table) -> Asked:
    """A pair as its labeller sees it: the prompt's messages, if there are some, and not what the policy prefers."""
    given = prompt.text if prompt.messages is None else json.loads(prompt.messages)
    inputs = {} if prompt.template_inputs is None else json.loads(prompt.template_inputs)
    first, second = (candidates["text"][at].as_py() for at in row["rows"])  # pyright: ignore
    return Asked(str(row["pair_id"]), given, inputs, first, second)


def _made(row: Mapping[str, object], p: float, rewards: np.ndarray) -> Contrast:
    first, second = row["rows"]  # pyright: ignore
    best, worst = (first, second) if p > 0.5 else (second, first)
    margin = float(rewards[best] - rewards[worst])
    return Contrast(str(row["prompt_id"]), (best, worst), Pair(max(p, 1.0 - p)), margin)
