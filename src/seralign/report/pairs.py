"""The pairs of a run as one table: texts, margins and selection in every round, and token log-ratios.

Everything stays in Arrow, and texts stay in the run's memory-mapped files until they are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seralign.runs import Run
from seralign.runs.examples import carried_columns, entry, first_label
from seralign.runs.files import read_parts, read_stream, read_table
from seralign.runs.layout import (
    BOOTSTRAP,
    COMPOSE,
    CROSSFIT,
    DATA,
    GENERATED,
    PAIRS,
    REVIEW,
    SELECT,
    SELECTION,
    TOKEN_RATIOS,
    TOKENS,
    TRAIN,
    TRAINING,
    round_stage,
)
from seralign.runs.streams import StoredRows

# Why a pair was dropped that the selection had kept.
LEFT_OUT = "left out by the mix"
# Why no round had a pair of the data.
DROPPED = "dropped by the review before round 1"
# What the round would train on, where it has not been trained (yet).
SELECTED = "selected"

# Key of the table's metadata.
_FIRST_ROUND = b"first_round"

_TOKEN_COLUMNS = {
    "chosen_tokens": pa.list_(pa.string()),
    "rejected_tokens": pa.list_(pa.string()),
    "chosen_ratios": pa.list_(pa.float32()),
    "rejected_ratios": pa.list_(pa.float32()),
}


def read_pairs(run: Run, rounds: Sequence[int], limit: int) -> tuple[pa.Table | None, int]:
    """At most ``limit`` pairs of a run, offline ones first, and how many there are in all; None before there are data.

    Examples of another form than a pair are left out.

    Columns:

    - ``example_id``, ``origin`` (``offline``, ``generated:ROUND``), ``p`` (the label that rounds train with),
      ``prompt``, ``chosen``, ``rejected``;
    - ``chosen_length``, ``rejected_length``: tokens;
    - ``carried.NAME``: values of the columns that ``data.keep_columns`` names, as text; null where there is none;
    - ``margins``, ``kept``: lists, one entry for each round from ``first_round`` on: the ensembled margin in nats, and
      ``kept`` (the round trained on the pair), ``selected`` (it has not been trained yet) or why it left the pair out,
      which may be the review before round 1; null where the pair was not there to be chosen;
    - ``disagreement``: |h1 - h2| of the two policies of the ensemble in the last round that had both;
    - ``tokens_round``: the round whose policy the token columns are of; null for most pairs;
    - ``chosen_tokens``, ``rejected_tokens``: text of each token, the end token too; ``chosen_ratios``,
      ``rejected_ratios``: log pi - log pi_ref of each, in nats.

    Args:
        run: The run.
        rounds: Numbers of its rounds.
        limit: Most rows; see ``sample_pairs``.
    """
    if not run.exists("data"):
        return None, 0
    files = [_offline(run)]
    files += [run.path(round_stage(index, BOOTSTRAP), GENERATED) for index in rounds if _has(run, index, BOOTSTRAP)]
    tables, tokens = [read_stream(file) for file in files], _tokens(run, rounds)
    pairs = [np.flatnonzero(pc.equal(table["form"], "pair").to_numpy()) for table in tables]  # pyright: ignore
    total = sum(map(len, pairs))
    coloured = [
        _is_in(table["example_id"], tokens["example_id"])[rows] for table, rows in zip(tables, pairs, strict=True)
    ]
    wanted = np.split(sampled(np.concatenate(coloured), limit), np.cumsum([len(rows) for rows in pairs])[:-1])
    table = pa.concat_tables(
        _plain(StoredRows(table).take(rows[some])) for table, rows, some in zip(tables, pairs, wanted, strict=True)
    )
    ids = table["example_id"].combine_chunks()
    at = pc.index_in(ids, value_set=tokens["example_id"])  # pyright: ignore
    table = table.append_column("tokens_round", tokens["tokens_round"].take(at))
    for name in _TOKEN_COLUMNS:
        table = table.append_column(name, tokens[name].take(at))
    first = 1 if _has(run, 1, BOOTSTRAP) else 2
    for name, column in _reviews(run, range(first, max(rounds, default=1) + 1), ids).items():
        table = table.append_column(name, column)
    return table.replace_schema_metadata({_FIRST_ROUND: str(first)}), total


def first_round(table: pa.Table) -> int:
    """The first round that selected pairs: 2, or 1 if the rounds make all of their pairs."""
    return int((table.schema.metadata or {}).get(_FIRST_ROUND, b"2"))


def sample_pairs(table: pa.Table, count: int) -> pa.Table:
    """At most ``count`` rows of a table of pairs, in its order: those with token columns, and others evenly over it."""
    wanted = sampled(table["tokens_round"].is_valid().to_numpy(), count)
    return table if wanted.all() else table.filter(pa.array(wanted))


def sampled(coloured: np.ndarray, count: int) -> np.ndarray:
    """Which of N pairs are in a sample of at most ``count`` [N]: those that are ``coloured`` [N], and others evenly
    over them."""
    if len(coloured) <= count:
        return np.ones(len(coloured), dtype=bool)
    wanted, left = np.zeros(len(coloured), dtype=bool), count
    for rows in (np.flatnonzero(coloured), np.flatnonzero(~coloured)):
        some = min(left, len(rows))
        wanted[rows[np.arange(some) * len(rows) // max(some, 1)]] = True
        left -= some
    return wanted


def _plain(table: pa.Table) -> pa.Table:
    columns = {name: table[name] for name in ("origin", "prompt")}
    columns |= {"example_id": table["example_id"], "p": first_label(table["preference"])}
    for place, side in enumerate(("chosen", "rejected")):
        columns[side] = entry(table["responses"], place)
        columns[f"{side}_length"] = pc.list_value_length(entry(table["response_ids"], place))  # pyright: ignore
    return pa.table(columns | {name: table[name] for name in carried_columns(table.column_names).values()})


def _offline(run: Run) -> Path:
    """The table of the offline pairs as rounds train on them: with the labels of a review before round 1."""
    return run.path(CROSSFIT if run.exists(CROSSFIT) else DATA, PAIRS)


def _dropped(run: Run, ids: pa.Array) -> pa.ChunkedArray:
    """Those of some ids whose pairs a review before round 1 took out of the data."""
    if not run.exists(CROSSFIT):
        return pa.chunked_array([], pa.string())
    found = _rows_of(run.path(CROSSFIT, REVIEW), ["example_id", "kept"], ids)
    return found.filter(pc.invert(found["kept"]))["example_id"]  # pyright: ignore


def _tokens(run: Run, rounds: Sequence[int]) -> pa.Table:
    """The token columns of all rounds. The last round comes first: a look-up finds the last one that has the pair."""
    schema = pa.schema({"example_id": pa.string(), **_TOKEN_COLUMNS, "tokens_round": pa.int32()})
    tables = [schema.empty_table()]
    for index in sorted(rounds, reverse=True):
        if _has(run, index, TOKENS):
            found = read_table(run.path(round_stage(index, TOKENS), TOKEN_RATIOS))
            columns = {"example_id": found["example_id"]}
            for place, side in enumerate(("chosen", "rejected")):
                columns |= {f"{side}_{kind}": entry(found[kind], place) for kind in ("tokens", "ratios")}
            columns["tokens_round"] = pa.array(np.full(len(found), index, dtype=np.int32))
            tables.append(pa.table(columns).select(schema.names).cast(schema))
    return pa.concat_tables(tables)


def _reviews(run: Run, rounds: Sequence[int], ids: pa.Array) -> dict[str, pa.Array]:
    """``margins``, ``kept`` and ``disagreement`` of the pairs with these ids, from the selections of all rounds."""
    margins, kept = [], []
    dropped = pc.is_in(ids, value_set=_dropped(run, ids))  # pyright: ignore
    disagreement = pa.nulls(len(ids), pa.float64())
    for index in rounds:
        found = _selections(run, index, ids)
        at = pc.index_in(ids, value_set=found["example_id"])  # pyright: ignore
        margins.append(found["margin"].take(at))
        never = pc.if_else(dropped, DROPPED if len(found) else None, None)  # pyright: ignore
        kept.append(pc.coalesce(found["reason"].take(at), never.cast(pa.string())))  # pyright: ignore
        disagreement = pc.coalesce(found["disagreement"].take(at), disagreement)  # pyright: ignore
    return {
        "margins": _lists(margins, len(ids), pa.float64()),
        "kept": _lists(kept, len(ids), pa.string()),
        "disagreement": disagreement,
    }


def _selections(run: Run, index: int, ids: pa.Array) -> pa.Table:
    """What a round decided about the pairs with these ids: ``example_id``, ``margin``, ``reason``, ``disagreement``."""
    schema = pa.schema(
        {"example_id": pa.string(), "margin": pa.float64(), "reason": pa.string(), "disagreement": pa.float64()}
    )
    tables = [schema.empty_table()]
    for stage in (SELECT, BOOTSTRAP):
        if _has(run, index, stage):
            tables.append(_rows_of(run.path(round_stage(index, stage), SELECTION), schema.names, ids).cast(schema))
    table = pa.concat_tables(tables)
    if not _has(run, index, TRAIN):
        is_kept = pc.equal(table["reason"], "kept")  # pyright: ignore
        table = table.set_column(2, "reason", pc.if_else(is_kept, SELECTED, table["reason"]))  # pyright: ignore
    if not _has(run, index, COMPOSE):
        return table
    mixed = _rows_of(run.path(round_stage(index, COMPOSE), TRAINING), ["example_id", "used"], ids)
    unused = mixed.filter(pc.invert(mixed["used"]))["example_id"]  # pyright: ignore
    is_unused = pc.is_in(table["example_id"], value_set=unused)  # pyright: ignore
    reason = pc.if_else(is_unused, LEFT_OUT, table["reason"])  # pyright: ignore
    return table.set_column(2, "reason", reason)


def _rows_of(path: Path, columns: list[str], ids: pa.Array) -> pa.Table:
    """Columns of a table of pairs, only the rows with these ids; the others are not held in memory."""
    return pa.concat_tables(
        part.filter(pa.array(_is_in(part["example_id"], ids))) for part in read_parts(path, columns)
    )


def _is_in(column: pa.ChunkedArray, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Whether each of N ids is one of ``ids`` [N]."""
    return pc.is_in(column.cast(pa.string()), value_set=ids).to_numpy()  # pyright: ignore


def _lists(columns: Sequence[pa.ChunkedArray], rows: int, kind: pa.DataType) -> pa.ListArray:
    """Columns [rows] side by side: one list a row, one entry a column."""
    values = pa.chunked_array([chunk for column in columns for chunk in column.chunks], kind).combine_chunks()
    order = np.arange(rows)[:, None] + rows * np.arange(len(columns))
    offsets = np.arange(rows + 1, dtype=np.int32) * len(columns)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values.take(pa.array(order.reshape(-1), pa.int64())))


def _has(run: Run, index: int, stage: str) -> bool:
    return run.exists(round_stage(index, stage))
