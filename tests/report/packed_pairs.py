"""Reads the pairs of a report's page back, as its scripts do."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import numpy as np

TYPES = {"u1": np.uint8, "u2": np.uint16, "u4": np.uint32, "i2": np.int16, "f4": np.float32}


def arrays(header: dict[str, Any], blocks: dict[str, str], name: str) -> dict[str, Any]:
    """The arrays of a block of a page, by their names."""
    raw, at, found = gzip.decompress(base64.b64decode(blocks[name])), 0, {}
    for column, kind, length in header[name]:
        found[column] = np.frombuffer(raw, TYPES[kind], length, at)
        assert at % np.dtype(TYPES[kind]).itemsize == 0, "a typed array must begin at a multiple of its size"
        at += found[column].nbytes
    assert at == len(raw)
    return found


def strings_of(header: dict[str, Any], blocks: dict[str, str]) -> list[str]:
    """All texts of a page, which its pairs share."""
    text = gzip.decompress(base64.b64decode(blocks["text"])).decode().encode("utf-16-le")
    starts = [0, *(2 * np.cumsum(arrays(header, blocks, "numbers")["units"], dtype=int)).tolist()]
    return [text[starts[at] : starts[at + 1]].decode("utf-16-le") for at in range(len(starts) - 1)]


def unpacked(header: dict[str, Any], blocks: dict[str, str]) -> tuple[list[dict[str, Any]], list[list[Any]], list[str]]:
    """The pairs of a page as rows; the tokens of the coloured ones as (length in UTF-16 units, log-ratio), and what
    these tokens say."""
    columns, strings = arrays(header, blocks, "numbers"), strings_of(header, blocks)
    carried = {entry["name"]: entry["column"] for entry in header["carried"]}
    rows = []
    for at in range(header["pairs"]):
        row: dict[str, Any] = {name: strings[columns[name][at]] for name in ("id", "prompt", "chosen", "rejected")}
        row |= {name: columns[name][at].item() for name in ("p", "disagreement", "tokens_round", "lost_chosen")}
        row["origin"] = header["origins"][columns["origin"][at]]
        row["margins"] = [columns[f"margin_{index}"][at].item() for index in header["rounds"]]
        codes = [columns[f"kept_{index}"][at] for index in header["rounds"]]
        row["kept"] = [None if code == 255 else header["reasons"][code] for code in codes]
        places = {name: columns[column][at] for name, column in carried.items()}
        row["carried"] = {name: None if place == 2**32 - 1 else strings[place] for name, place in places.items()}
        row["lost_carried"] = {name: columns[f"lost_{column}"][at].item() for name, column in carried.items()}
        rows.append(row)
    tokens, at, found = arrays(header, blocks, "tokens"), 0, []
    for count in tokens["counts"]:
        span = slice(at, at + count)
        found.append(list(zip(tokens["lengths"][span], tokens["ratios"][span] * header["ratio_step"], strict=True)))
        at += count
    return rows, found, [strings[place] for place in tokens["said"]]


def filters(header: dict[str, Any], blocks: dict[str, str]) -> dict[str, list[str]]:
    """The values that a page lets one choose from, by column of the source."""
    strings = strings_of(header, blocks)
    return {entry["name"]: [strings[at] for at in entry["values"]] for entry in header["carried"]}
