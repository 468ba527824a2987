"""``seralign query``: choose pairs of candidates to have labelled, and read the labels when they are there."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seralign.config.paths import expanded
from seralign.data.sources import describe, fingerprint
from seralign.errors import DataError, StoreError
from seralign.preferences.groups import Group
from seralign.preferences.kept import PROVENANCE
from seralign.preferences.query_config import QueryFileConfig
from seralign.preferences.queue import Asked, QueueLabels, complete, write_queue
from seralign.preferences.rows import read_groups
from seralign.preferences.signals.reward_model import rewards_of
from seralign.preferences.signals.texts import prompt_text, response_texts
from seralign.preferences.writing import write_rows
from seralign.records import content_id
from seralign.rewards.acquisition import acquire
from seralign.rewards.reward_model import ensemble_rewards, open_reward_model
from seralign.runs.files import disk_errors, file_digest, partial_folder, write_json
from seralign.runs.manifest import differences
from seralign.runs.results import Results

MAKER = "seralign query"
# What a queue does not depend on: it may change between writing the queue and reading its labels.
_FREE = ("out", "allow_partial")


@dataclass(frozen=True)
class QueryFigures:
    """What was written: the queue, or if ``out`` is not None the preferences.

    Args:
        queue: The queue.
        asked: Pairs in the queue.
        pool: Pairs that they were chosen from.
        out: The preferences.
        pairs: Pairs in ``out``.
        left_out: Pairs of the queue that are not in ``out``, and prompts that gave no pair, by reason.
    """

    queue: str
    asked: int
    pool: int
    out: str | None
    pairs: int
    left_out: dict[str, int]


@dataclass(frozen=True)
class _Pair:
    """Two responses of a group by their index, the better one by reward first, with its margin and their spread."""

    group: Group
    rows: tuple[int, int]
    margin: float | None
    spread: float | None


def query(config: QueryFileConfig) -> QueryFigures:
    """Write the queue; or if it is there, read its labels and write the preferences.

    Beside the queue lies ``NAME.query.json``, which says what was asked and why.

    Raises:
        AwaitingLabels: Pairs have no label yet.
        SeralignError: A row, a setting or a label is wrong; names it. Nothing is lost.
    """
    queue, out = Path(expanded(config.queue)), Path(expanded(config.out))
    record = queue.with_name(f"{queue.stem}.query.json")
    if out.exists():
        raise StoreError(f"{out} already exists; delete it, or give another name (out)")
    settings = asdict(config)
    with disk_errors(queue.parent):
        if not record.exists():
            if queue.exists():
                raise StoreError(
                    f"{queue} exists, but not {record.name}, which says what was asked; give another name (queue)"
                )
            _choose(config, settings, queue, record)
        recorded = _recorded(record, settings)
        asked = [_asked(row) for row in recorded["pairs"]]
        if not queue.exists():
            write_queue(queue, asked)
            return QueryFigures(config.queue, len(asked), recorded["pool"], None, 0, recorded["left_out"])
        labels = complete(queue, asked, config.allow_partial, "allow_partial")
    with disk_errors(out.parent):
        return _write(config, settings, recorded, asked, labels, out, queue)


def _choose(config: QueryFileConfig, settings: Mapping[str, Any], queue: Path, record: Path) -> None:
    """Choose the pairs, and write what is asked."""
    folder = queue.with_name(queue.name + ".partial")
    left_out: Counter[str] = Counter()
    with partial_folder(folder, MAKER), closing(Results(folder / "rewards.sqlite")) as results:
        groups = list(read_groups(config.data, folder))
        pool = list(_pool(config, groups, results, left_out))
        if not pool:
            reasons = ", ".join(f"{reason} {count}" for reason, count in left_out.items()) or "no rows"
            raise DataError(f"{describe(config.data.source)}: no pair can be made: {reasons}")
        rows = acquire(
            config.strategy,
            config.budget,
            len(pool),
            config.seed,
            margins=lambda: np.array([pair.margin for pair in pool], np.float64),
            spreads=lambda: np.array([pair.spread for pair in pool], np.float64),
            texts=lambda: [_text(pair) for pair in pool],
        )
        turned = np.random.default_rng([config.seed, 1]).random(len(rows)) < 0.5
        pairs = [_record_of(pool[row], bool(turn)) for row, turn in zip(rows, turned, strict=True)]
        write_json(
            record,
            {
                "maker": MAKER,
                "configuration": settings,
                "data": fingerprint(config.data.source, "data"),
                "pool": len(pool),
                "left_out": dict(left_out),
                "pairs": pairs,
            },
        )
    shutil.rmtree(folder)


def _pool(
    config: QueryFileConfig, groups: Sequence[Group], results: Results, left_out: Counter[str]
) -> Iterator[_Pair]:
    """One pair of each prompt with two different responses."""
    texts = [response_texts(group) for group in groups]
    different = [list({text: place for place, text in reversed(list(enumerate(own))) if text.strip()}.values())
                 for own in texts]  # fmt: skip
    flat = [(group, own[place]) for group, own, some in zip(groups, texts, different, strict=True) for place in some]
    models = [open_reward_model(name, f"reward_models[{at}]") for at, name in enumerate(config.reward_models)]
    rewards = [rewards_of(model, flat, results) for model in models] if flat else []
    # Numpy draws the same from [seed, 0] as from seed, which draws the pairs of ``random``.
    draw, start = np.random.default_rng([config.seed, 2]), 0
    for group, some in zip(groups, different, strict=True):
        own, start = slice(start, start + len(some)), start + len(some)
        if len(some) < 2:
            left_out["prompts without two different responses"] += 1
        elif not models:
            first, second = draw.choice(len(some), size=2, replace=False)
            yield _Pair(group, (some[first], some[second]), None, None)
        else:
            of_models = np.stack([each[own] for each in rewards])
            mean = of_models.mean(axis=0)
            best, worst = int(mean.argmax()), int(mean.argmin())
            if mean[best] == mean[worst]:
                left_out["prompts whose responses have the same reward"] += 1
                continue
            found = ensemble_rewards([np.array([each[best] - each[worst]]) for each in of_models])
            yield _Pair(group, (some[best], some[worst]), float(found.mean[0]), float(found.spread[0]))


def _text(pair: _Pair) -> str:
    texts = response_texts(pair.group)
    return " ".join((prompt_text(pair.group), *(texts[row] for row in pair.rows)))


def _record_of(pair: _Pair, turn: bool) -> dict[str, Any]:
    rows = pair.rows[::-1] if turn else pair.rows
    group = pair.group
    first, second = (group.responses[row] for row in rows)
    return {
        "pair_id": content_id([group.prompt, dict(group.inputs), first, second, group.where]),
        "prompt": group.prompt,
        "inputs": dict(group.inputs),
        "response_a": first,
        "response_b": second,
        "source": f"{group.where}, responses {rows[0]} and {rows[1]}",
        "margin": pair.margin,
        "spread": pair.spread,
    }


def _recorded(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        before, _ = recorded["configuration"], recorded["pairs"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); it says what was asked, so restore it") from None
    old, new = ({key: value for key, value in each.items() if key not in _FREE} for each in (before, settings))
    if changed := differences(old, new):
        raise StoreError(
            f"{path}: the queue was made with another configuration: {'; '.join(changed)}; use that one, or give "
            "another name (queue)"
        )
    return recorded


def _asked(row: Mapping[str, Any]) -> Asked:
    return Asked(row["pair_id"], row["prompt"], row["inputs"], row["response_a"], row["response_b"])


def _write(
    config: QueryFileConfig,
    settings: Mapping[str, Any],
    recorded: Mapping[str, Any],
    asked: Sequence[Asked],
    labels: QueueLabels,
    out: Path,
    queue: Path,
) -> QueryFigures:
    rows = [
        _preference(one, row, labels.p[one.pair_id], config.strategy)
        for one, row in zip(asked, recorded["pairs"], strict=True)
        if labels.p.get(one.pair_id, 0.5) != 0.5
    ]
    counts = labels.undecided
    left_out = {reason: count for reason, count in {**recorded["left_out"], **counts}.items() if count}
    if not rows:
        raise DataError(f"{queue}: no pair has a better response: {', '.join(f'{k} {v}' for k, v in counts.items())}")
    figures = QueryFigures(config.queue, len(asked), recorded["pool"], config.out, len(rows), left_out)
    provenance = {"queue_sha256": file_digest(queue), "data": recorded["data"], "configuration": settings}
    write_json(out.with_name(f"{out.stem}.label.json"), asdict(figures) | provenance)
    write_rows(out, lambda: rows)
    return figures


def _preference(one: Asked, row: Mapping[str, Any], p: float, strategy: str) -> dict[str, Any]:
    """A pair as ``data.pairs`` reads it, with its provenance."""
    chosen, rejected = (one.response_a, one.response_b) if p > 0.5 else (one.response_b, one.response_a)
    said = {"p_a": p, "strategy": strategy, "margin": row["margin"], "spread": row["spread"]}
    provenance = dict(zip(PROVENANCE, ("queue", row["source"], json.dumps({"queue": said})), strict=True))
    return {
        "prompt": one.prompt,
        **one.inputs,
        "chosen": chosen,
        "rejected": rejected,
        "p": max(p, 1 - p),
        **provenance,
    }
