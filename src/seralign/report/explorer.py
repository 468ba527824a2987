"""The pairs of a run, packed for the page's explorer: columns of numbers, one text, tokens where a run has them.

A packed run is three blocks of little-endian arrays, each gzip and then base64; the page inflates them itself. A string
A string is stored once, however many pairs share it. The packed size is limited, so that the page can be sent by mail.
If the pairs do not fit, texts are cut, and if necessary colours or pairs are left out; the header says what.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seralign.report.pairs import first_round, sample_pairs
from seralign.report.reviews import by_round
from seralign.report.template_ends import template_ends
from seralign.runs.examples import carried_columns

# Log-ratios are packed in steps of a hundredth of a nat, in two bytes.
RATIO_STEP = 0.01
# Share of the coloured pairs that keep their colours (and their whole text), and the longest text of all other pairs in
# characters. The first level that fits is used.
_LEVELS = (
    (1.0, 10**9), (1.0, 4000), (1.0, 1500), (1.0, 600), (1.0, 300), (0.5, 300), (0.5, 150), (0.2, 150), (0.1, 100),
    (0.0, 60),
)  # fmt: skip
# Number of rows to estimate sizes from.
_SAMPLE = 500
_TEXTS = ("prompt", "chosen", "rejected")
_SIDES = ("chosen", "rejected")
_NO_REASON = 255
# A source column with more distinct or longer values is not offered as a filter; the search covers it.
_MOST_VALUES, _LONGEST_VALUE = 100, 200
_NO_TEXT = 2**32 - 1


@dataclass(frozen=True)
class Packed:
    """The pairs of one run as the page holds them.

    Args:
        header: What the page needs to read the blocks: names, types and lengths of their arrays, and pools of names.
        blocks: ``numbers``, ``text`` and ``tokens``: gzip in base64.
    """

    header: dict[str, Any]
    blocks: dict[str, str]

    @property
    def size(self) -> int:
        """Size of the blocks in the page, in bytes."""
        return sum(map(len, self.blocks.values()))


def pack_pairs(pairs: pa.Table, total: int, most: int) -> Packed:
    """Pack the pairs of a run into at most ``most`` bytes; if not even one fits, the blocks are empty.

    Args:
        pairs: The pairs, with the columns of ``seralign.report.pairs.read_pairs``.
        total: Number of pairs of the run, including those that are not in the table.
        most: Largest size of the blocks in the page, in bytes.
    """
    if len(pairs) == 0 or most <= 0:
        return _pack(pairs.slice(0, 0), _LEVELS[-1], total)
    part = pairs.take(np.arange(0, len(pairs), max(len(pairs) // _SAMPLE, 1)))
    scale = len(pairs) / len(part)
    for level in _LEVELS:
        # Parts share fewer strings than the whole table, so they are a little larger for their number of rows.
        if scale == 1 or 0.85 * scale * _pack(part, level, total).size <= most:
            packed = _pack(pairs, level, total)
            if packed.size <= most:
                return packed
    fits = most / (scale * _pack(part, _LEVELS[-1], total).size)
    return pack_pairs(sample_pairs(pairs, int(len(pairs) * min(0.9 * fits, 0.9))), total, most)


def _pack(pairs: pa.Table, level: tuple[float, int], total: int) -> Packed:
    share, longest = level
    coloured = _thinned(pairs["tokens_round"].is_valid().to_numpy(), share)
    carried = carried_columns(pairs.column_names)
    names = (*_TEXTS, *carried.values())
    whole = {name: pc.fill_null(pairs[name], "") for name in names}  # pyright: ignore
    filters = {name for name in carried.values() if _is_filter(pairs[name])}
    short = {name: text if name in filters else _cut(text, coloured, longest) for name, text in whole.items()}
    strings = [pairs["example_id"].combine_chunks(), *(texts.combine_chunks() for texts in short.values())]
    looked_at = pairs.filter(pa.array(coloured))
    pool = pa.concat_arrays([*strings, _said(looked_at)]).dictionary_encode()
    lost = {f"lost_{name}": _units(whole[name]) - _units(short[name]) for name in names}
    indices = pool.indices.to_numpy().astype(np.uint32)
    texts_end = len(strings) * len(pairs)
    places, said_at = indices[:texts_end].reshape(len(strings), -1), indices[texts_end:]
    words, said = _words(pairs, np.where(coloured, _numbers(pc.fill_null(pairs["tokens_round"], 0), np.uint8), 0))
    numbers = {name: places[row] for row, name in enumerate(("id", *names))}
    for name in carried.values():
        numbers[name] = np.where(pairs[name].is_valid().to_numpy(), numbers[name], np.uint32(_NO_TEXT))
    # Arrays of bytes come last, so that all others are aligned for their type.
    numbers |= lost | {"units": _units(pool.dictionary)} | _figures(pairs) | words
    tokens = {"said": said_at} | _tokens(looked_at)
    header = {
        "pairs": len(pairs),
        "total": total,
        "coloured": int(coloured.sum()),
        "cut": int(np.any([column > 0 for column in lost.values()], axis=0).sum()),
        "longest": longest,
        "template": template_ends(short["prompt"]).to_dict(),
        "rounds": [int(name.removeprefix("margin_")) for name in numbers if name.startswith("margin_")],
        "ratio_step": RATIO_STEP,
        "carried": [
            {"name": theirs, "column": name, "values": _values(numbers[name], pool) if name in filters else []}
            for theirs, name in carried.items()
        ],
        "numbers": _arrays(numbers),
        "tokens": _arrays(tokens),
    }
    blocks = {
        "numbers": _squeezed(column.tobytes() for column in numbers.values()),
        "text": _squeezed(text.encode() for text in pool.dictionary.to_pylist()),
        "tokens": _squeezed(column.tobytes() for column in tokens.values()),
    }
    return Packed(header | said, blocks)


def _is_filter(column: pa.ChunkedArray) -> bool:
    """Whether a source column has few distinct and short values."""
    values = column.unique().drop_null()
    return len(values) <= _MOST_VALUES and (pc.max(pc.utf8_length(values)).as_py() or 0) <= _LONGEST_VALUE  # pyright: ignore


def _values(places: np.ndarray, pool: pa.DictionaryArray) -> list[int]:
    """The distinct texts of a column in alphabetical order, as indices into the pool."""
    return sorted(np.unique(places[places != _NO_TEXT]).tolist(), key=lambda at: pool.dictionary[at].as_py())


def _figures(pairs: pa.Table) -> dict[str, np.ndarray]:
    """The numeric columns; NaN for missing values."""
    found = {f"{side}_length": _numbers(pairs[f"{side}_length"], np.uint32) for side in _SIDES}
    found |= {name: _numbers(pairs[name], np.float32) for name in ("p", "disagreement")}
    margins = by_round(pairs["margins"], float("nan"))
    numbered = enumerate(margins, first_round(pairs))
    return found | {f"margin_{index}": _numbers(margin, np.float32) for index, margin in numbered}


def _words(pairs: pa.Table, tokens_round: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Columns with few distinct values as byte codes, and the meaning of the codes."""
    origins = pairs["origin"].combine_chunks().dictionary_encode()
    reasons = [reason.dictionary_encode() for reason in by_round(pairs["kept"], "")]
    said = list(dict.fromkeys(name for reason in reasons for name in reason.dictionary.to_pylist() if name))
    found = {"origin": origins.indices.to_numpy().astype(np.uint8), "tokens_round": tokens_round.astype(np.uint8)}
    for index, reason in enumerate(reasons, first_round(pairs)):
        codes = [said.index(name) if name else _NO_REASON for name in reason.dictionary.to_pylist()]
        found[f"kept_{index}"] = np.array(codes, np.uint8)[reason.indices.to_numpy()]
    return found, {"origins": origins.dictionary.to_pylist(), "reasons": said}


def _said(pairs: pa.Table) -> pa.Array:
    """The text of the tokens of coloured pairs, with the end token: chosen, rejected, chosen, ...

    The pair keeps its own text, without special tokens, for the search.
    """
    said = [pc.binary_join(pairs[f"{side}_tokens"], "").combine_chunks() for side in _SIDES]  # pyright: ignore
    order = np.arange(2 * len(pairs)).reshape(2, -1).T.reshape(-1)
    return pa.concat_arrays(said).take(pa.array(order, pa.int64()))


def _cut(texts: pa.ChunkedArray, coloured: np.ndarray, longest: int) -> pa.ChunkedArray:
    short = pc.utf8_slice_codeunits(texts, 0, longest)  # pyright: ignore
    return pc.if_else(pa.array(coloured), texts, short)  # pyright: ignore


def _tokens(pairs: pa.Table) -> dict[str, np.ndarray]:
    """Tokens of coloured pairs: how many each response has (chosen, rejected, chosen, ...), their lengths, log-ratios.

    Lengths are in UTF-16 units, as JavaScript counts; log-ratios in steps of ``RATIO_STEP``.
    """
    counts, lengths, ratios = [], [], []
    for row in pairs.select([f"{side}_{kind}" for side in _SIDES for kind in ("tokens", "ratios")]).to_pylist():
        for side in _SIDES:
            texts, values = row[f"{side}_tokens"], row[f"{side}_ratios"]
            counts.append(len(texts))
            lengths += [len(text.encode("utf-16-le")) // 2 for text in texts]
            steps = np.nan_to_num(np.asarray(values, dtype=np.float64) / RATIO_STEP)
            ratios += np.clip(np.round(steps), -32767, 32767).tolist()
    return {
        "counts": np.array(counts, np.uint32),
        "lengths": np.array(lengths, np.uint16),
        "ratios": np.array(ratios, np.int16),
    }


def _thinned(mask: np.ndarray, share: float) -> np.ndarray:
    """Keep an evenly spaced share of a mask's true places."""
    places = np.flatnonzero(mask)
    some = int(len(places) * share)
    kept = np.zeros_like(mask)
    kept[places[np.arange(some) * len(places) // max(some, 1)]] = True
    return kept


def _units(texts: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Lengths in UTF-16 units."""
    beyond = pc.count_substring_regex(texts, "[\U00010000-\U0010ffff]")  # pyright: ignore
    return _numbers(pc.add(pc.utf8_length(texts), beyond), np.uint32)  # pyright: ignore


def _numbers(column: Any, kind: type[np.generic]) -> np.ndarray:
    if isinstance(column, pa.ChunkedArray):
        return column.to_numpy().astype(kind)
    return column.to_numpy(zero_copy_only=False).astype(kind)


def _arrays(columns: dict[str, np.ndarray]) -> list[tuple[str, str, int]]:
    """Name, type and length of each array, in their order."""
    return [(name, f"{column.dtype.kind}{column.dtype.itemsize}", len(column)) for name, column in columns.items()]


def _squeezed(parts: Iterable[bytes]) -> str:
    return base64.b64encode(gzip.compress(b"".join(parts), 6, mtime=0)).decode("ascii")
