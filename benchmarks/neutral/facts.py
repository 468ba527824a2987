"""What a run found, under names that do not depend on the revision that ran it."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from benchmarks.neutral import names

Value = str | int | float | bool | None
# Series by name (``margins/round-2/score/margin``), each from a row's label to its value.
Facts = dict[str, dict[str, Value]]
_TABLES = (".parquet", ".arrow")


class ReadingError(Exception):
    """The run has something that the lists of names do not know."""


@dataclass(frozen=True)
class Stage:
    """A finished stage: its folder, its name under the first names, and its figures."""

    folder: Path
    name: str
    figures: dict[str, Any]


def read_facts(run: Path) -> Facts:
    """Weights, selections, margins, metrics and figures of a finished run.

    Raises:
        ReadingError: nothing in the run has a name that the lists expect, so that it would be compared with nothing.
    """
    stages = list(_stages(run))
    identity = _identities(stages)
    facts: Facts = defaultdict(dict)
    for stage in stages:
        _weights(stage, facts)
        _columns(stage, identity, facts)
        _metrics(stage, facts)
        _figures(stage, facts)
    _check_complete(facts)
    return dict(facts)


def _stages(run: Path) -> Iterator[Stage]:
    for folder in sorted(path for path in run.rglob("*") if path.is_dir()):
        record = next((folder / name for name in names.RECORD if (folder / name).is_file()), None)
        if record is not None:
            content = json.loads(record.read_text(encoding="utf-8"))
            parts = folder.relative_to(run).parts
            name = "/".join(_first(part, names.STAGE_PARTS) for part in parts)
            yield Stage(folder, name, content[_present(names.FIGURES_KEY, content) or names.FIGURES_KEY[0]])


def _weights(stage: Stage, facts: Facts) -> None:
    for file in sorted(stage.folder.rglob("*.safetensors")):
        for name, tensor in load_file(file).items():
            data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            digest = hashlib.sha256(data).hexdigest()[:16]
            facts[f"weights/{stage.name}"][name] = f"{tensor.dtype} {list(tensor.shape)} {digest}"


def _identities(stages: Iterable[Stage]) -> dict[str, str]:
    """What the ids of examples and of prompts stand for: a digest of the tokens, numbered where two are the same."""
    found: dict[str, str] = {}
    for stage in stages:
        for table in _tables(stage):
            columns = table.column_names
            example, prompt = _present(names.EXAMPLE_ID, columns), _present(names.EXAMPLE_PROMPT, columns)
            sides = next((given for given in names.EXAMPLE_RESPONSES if set(given) <= set(columns)), None)
            if example and prompt and sides:
                _identify(table, example, [prompt, *sides], found)
            own, tokens = _present(names.PROMPT_ID, columns), _present(names.PROMPT_TOKENS, columns)
            if own and tokens and not example and not _present(names.RESPONSE_INDEX, columns):
                _identify(table, own, [tokens], found)
    return found


def _identify(table: pa.Table, column: str, content: Sequence[str], found: dict[str, str]) -> None:
    taken = set(found.values())
    for row in table.select([column, *content]).to_pylist():
        if row[column] in found:
            continue
        tokens: list[Any] = []
        for name in content:
            # One column of lists of tokens, or a column of tokens for each response.
            value = row[name]
            tokens += (
                [ids for ids in value if ids] if value and isinstance(value[0], list) else [value] if value else []
            )
        digest = hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:12]
        number, identity = 1, digest
        while identity in taken:
            number, identity = number + 1, f"{digest}#{number + 1}"
        found[row[column]] = identity
        taken.add(identity)


def _columns(stage: Stage, identity: dict[str, str], facts: Facts) -> None:
    groups = {"selections": names.SELECTION_COLUMNS, "margins": names.NUMBER_COLUMNS, "answers": names.TEXT_COLUMNS}
    for table in _tables(stage):
        columns = table.column_names
        key = _present(names.EXAMPLE_ID, columns) or _present(names.PROMPT_ID, columns)
        if key is None:
            continue
        labels = [identity.get(name, name) for name in table[key].to_pylist()]
        index = _present(names.RESPONSE_INDEX, columns)
        if index is not None:
            labels = [f"{label}/{number}" for label, number in zip(labels, table[index].to_pylist(), strict=True)]
        for group, accepted in groups.items():
            for column in columns:
                role = _known(column, accepted)
                # The text of a prompt is no answer.
                if role is None or (group == "answers" and index is None):
                    continue
                series = facts[f"{group}/{stage.name}/{role}"]
                for label, value in zip(labels, table[column].to_pylist(), strict=True):
                    kept = _first(value, names.VALUES) if isinstance(value, str) else value
                    if series.setdefault(label, kept) != kept:
                        raise ReadingError(f"{stage.name}: two tables have the column {column}, and differ in {label}")


def _metrics(stage: Stage, facts: Facts) -> None:
    for file in sorted(stage.folder.rglob(f"*{names.METRICS_SUFFIX}")):
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            step = _present(names.METRIC_STEP, line)
            if step is None:
                continue
            for key, value in line.items():
                parts = [_known(part, names.METRIC_PARTS) for part in key.split("/")]
                if None not in parts:
                    facts[f"metrics/{stage.name}"][f"step {line[step]}: {'/'.join(map(str, parts))}"] = value


def _figures(stage: Stage, facts: Facts) -> None:
    for path, value in _flat(stage.figures, ()):
        dotted = ".".join(path)
        for accepted in names.FIGURES:
            for pattern in accepted:
                if len(path) == pattern.count(".") + 1 and fnmatchcase(dotted, pattern):
                    stars = [part for part, given in zip(path, pattern.split("."), strict=True) if given == "*"]
                    label = "".join(
                        piece + star for piece, star in zip(accepted[0].split("*"), [*stars, ""], strict=True)
                    )
                    facts[f"figures/{stage.name}"][label] = value


def _check_complete(facts: Facts) -> None:
    roles = {series.rpartition("/")[2] for series in facts}
    logged = {part for name, series in facts.items() if name.startswith("metrics/") for label in series
              for part in label.partition(": ")[2].split("/")}  # fmt: skip
    figures = [label for name, series in facts.items() if name.startswith("figures/") for label in series]
    stages = {part for series in facts for part in series.split("/")[1:]}
    missing = [f"the column {first}" for first, *_ in names.NUMBER_COLUMNS + names.TEXT_COLUMNS if first not in roles]
    # The columns of a review are in those runs alone that have one.
    optional = set() if "crossfit" in stages else {"fold", "swapped", "scale", "certainty"}
    missing += [f"the column {first}" for first, *_ in names.SELECTION_COLUMNS if first not in roles | optional]
    missing += [f"the metric {first}" for first, *_ in names.METRIC_PARTS if first not in logged]
    missing += [
        f"the figure {first}" for first, *_ in names.FIGURES
        if first not in optional and not any(fnmatchcase(label, first) for label in figures)
    ]  # fmt: skip
    # A run that has ended early leaves the ensemble of two policies, which begins with round 3, out.
    needed = {first for first, *_ in names.STAGE_PARTS} | {"round-1", "round-2", "round-3"}
    needed -= {"crossfit", "review"} if optional else set()
    missing += [f"the stage {first}" for first in sorted(needed - stages)]
    missing += [] if any(name == "weights/result" for name in facts) else ["the weights of the result"]
    if missing:
        raise ReadingError(
            f"the run does not have {', '.join(missing)}. Where a name has changed, add the new one in "
            "benchmarks/neutral/names.py"
        )


def _tables(stage: Stage) -> Iterator[pa.Table]:
    for table in _stored_tables(stage):
        stored = _present(names.PREFERENCE, table.column_names)
        if stored is not None and _present(names.LABEL, table.column_names) is None:
            # The label of a pair is the first entry; the only response of a demonstration counts as certain.
            labels = pa.array([given[0] if given else 1.0 for given in table[stored].to_pylist()], pa.float64())
            table = table.append_column(names.LABEL[0], labels)
        yield table


def _stored_tables(stage: Stage) -> Iterator[pa.Table]:
    for file in sorted(path for path in stage.folder.rglob("*") if path.suffix in _TABLES):
        if file.suffix == ".parquet":
            yield pq.read_table(file)
        else:
            with pa.memory_map(str(file)) as source:
                yield pa.ipc.open_stream(source).read_all()


def _flat(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Value]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, (*path, str(key)))
    elif not isinstance(value, list):
        yield path, value


def _present(accepted: Sequence[str], given: Iterable[str]) -> str | None:
    given = set(given)
    return next((name for name in accepted if name in given), None)


def _known(name: str, lists: Sequence[Sequence[str]]) -> str | None:
    return next((accepted[0] for accepted in lists if name in accepted), None)


def _first(name: str, lists: Sequence[Sequence[str]]) -> str:
    return _known(name, lists) or name
