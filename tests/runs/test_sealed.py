"""Files with a digest of their own content: any change is noticed, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seralign.errors import StoreError
from seralign.runs.sealed import is_sealed, read_sealed, read_sealed_table, write_sealed, write_sealed_table

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
COLUMNS: dict[str, Any] = {
    "prompt_id": ["p1", "p2"], "ids": [[1, 2, 3], [70000]], "text": ["Grüße", ""], "finished": [True, False],
    "logp": [-1.5, -0.1],
}  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(st.text().filter(lambda key: key != "sha256"), JSON, max_size=4))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("sealed") / "a.json"
    write_sealed(path, content)
    assert read_sealed(path) == content


def test_an_edited_value_is_noticed_and_another_layout_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, {"figures": {"slope": 0.25, "kept": 3}, "name": "select"})
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(stored.items()))))
    assert read_sealed(path)["figures"]["slope"] == 0.25
    for edited in (
        stored | {"figures": {"slope": 0.5, "kept": 3}},
        stored | {"figures": {}},
        stored | {"more": None},
        stored | {"sha256": None},
        {key: value for key, value in stored.items() if key != "sha256"},
        {},
        [],
        None,
    ):
        path.write_text(json.dumps(edited))
        with pytest.raises(ValueError, match="digest"):
            read_sealed(path)


def test_a_file_nested_beyond_what_python_reads_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a":' + "[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_sealed(path)


@pytest.mark.parametrize("kind", ["json", "table"])
def test_every_flipped_bit_is_noticed_or_changes_nothing(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    content = {"inputs": {"data": "ab" * 32}, "figures": {"slope": 0.123456789, "name": "Grüße"}}
    if kind == "json":
        write_sealed(path, content)
    else:
        write_sealed_table(path, COLUMNS)
    whole = path.read_bytes()
    noticed = 0
    random = np.random.default_rng(0)
    for at, bit in zip(random.integers(0, len(whole), 400).tolist(), random.integers(0, 8, 400).tolist(), strict=True):
        harmed = bytearray(whole)
        harmed[at] ^= 1 << bit
        path.write_bytes(harmed)
        if kind == "table":
            assert not is_sealed(path)
            with pytest.raises(StoreError, match=f"^{path}: "):
                read_sealed_table(path)
            noticed += 1
            continue
        try:
            assert read_sealed(path) == content
        except ValueError:
            noticed += 1
    # Between the values of a JSON file are spaces and line ends, of which one may become another.
    assert noticed == 400 if kind == "table" else noticed > 380


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "part-0.sealed"
    assert not is_sealed(path)
    with pytest.raises(StoreError, match=f"^{path}: missing"):
        read_sealed_table(path)
    write_sealed_table(path, COLUMNS)
    assert is_sealed(path)
    assert read_sealed_table(path).to_pydict() == COLUMNS
    assert list(tmp_path.iterdir()) == [path]
