"""The labelling queue: what is written, what is read, and what is refused with the row that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.errors import AwaitingLabels, DataError
from seralign.preferences.queue import Asked, complete, read_queue, write_queue

ASKED = (
    Asked("one", "Name a prime.", {}, "Nine.", "Seven."),
    Asked("two", [{"role": "user", "content": "Hi\u2028there"}], {"system": "Be brief."}, "Hello.", "Good day."),
    Asked("three", "Sing.", {}, "La.", "No."),
)


def _file(folder: Path, *rows: Any) -> Path:
    path = folder / "queue.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def _label(name: str, label: Any) -> dict[str, Any]:
    return {"pair_id": name, "label": label}


def test_a_new_queue_shows_the_pairs_without_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels" / "queue.jsonl"
    write_queue(path, ASKED)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert lines[0] == {
        "pair_id": "one", "prompt": "Name a prime.", "response_a": "Nine.", "response_b": "Seven.", "label": None,
    }  # fmt: skip
    assert lines[1]["system"] == "Be brief."
    assert [entry.name for entry in path.parent.iterdir()] == ["queue.jsonl"]
    found = read_queue(path, ASKED)
    assert (found.p, found.skipped, found.missing) == ({}, (), ("one", "two", "three"))


def test_labels_are_probabilities_that_a_is_better(tmp_path: Path) -> None:
    path = tmp_path / "queue.jsonl"
    write_queue(path, ASKED)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    for row, label in zip(rows, (" A", 0.25, "skip"), strict=True):
        row["label"] = label
    found = read_queue(_file(tmp_path, *reversed(rows)), ASKED)
    assert found.p == {"one": 1.0, "two": 0.25}
    assert (found.skipped, found.missing) == (("three",), ())
    found = read_queue(_file(tmp_path, _label("one", "b"), "", _label("two", "tie"), _label("three", "")), ASKED)
    assert found.p == {"one": 0.0, "two": 0.5}
    assert found.missing == ("three",)


def test_the_same_label_twice_is_no_contradiction(tmp_path: Path) -> None:
    rows = [_label("one", "a"), _label("one", None), _label("one", "A")]
    assert read_queue(_file(tmp_path, *rows), ASKED).p == {"one": 1.0}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([_label("one", "a"), _label("four", "b")], r"row 2: there is no pair 'four' in this queue"),
        (
            [_label("one", "a"), _label("two", "a"), _label("one", "b")],
            r"row 3: contradicts .*row 1, which has another",
        ),
        ([_label("one", "c")], r"row 1: label must be \"a\", \"b\", \"tie\", .*, got 'c'"),
        # 1 could be the second response, or the probability of the first.
        ([_label("one", 1)], r'row 1: label is 1, which could be a probability or the number of .*; write "a" or "b"'),
        ([_label("one", 0.0)], r"row 1: label is 0\.0, which could be a probability"),
        ([_label("one", True)], r"row 1: label must be .*, got True"),
        ([_label("one", 1.5)], r"row 1: label must be .*, got 1\.5"),
        (['{"pair_id": "one", "label": NaN}'], r"row 1: label must be .*, got nan"),
        ([{"label": "a"}], r"row 1: pair_id is missing"),
        ([{"pair_id": 1, "label": "a"}], r"row 1: pair_id is missing, or no text"),
        ([_label("one", "a"), "{"], r"row 2: not JSON"),
        (["[]"], r"row 1: each line is an object"),
        ([_label("one", "a") | {"response_b": "Eleven."}], r"row 1: response_b is not that of the pair 'one'"),
        ([_label("one", None) | {"prompt": "Name a bird."}], r"row 1: prompt is not that of the pair 'one'"),
    ],
)
def test_wrong_rows_are_named(rows: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_queue(_file(tmp_path, *rows), ASKED)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "queue.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_queue(path, ASKED)


def test_half_of_the_labels_wait_or_are_enough(tmp_path: Path) -> None:
    path = _file(tmp_path, _label("one", "a"), _label("three", None))
    with pytest.raises(
        AwaitingLabels, match=r"1 of 3 pairs have a label, the first without one is 'two'; .*partial: t"
    ):
        complete(path, ASKED, False, "allow_partial")
    assert complete(path, ASKED, True, "allow_partial").missing == ("two", "three")
    with pytest.raises(AwaitingLabels, match=r"3 pairs to label; set each"):
        complete(_file(tmp_path, ""), ASKED, True, "allow_partial")


@given(
    st.lists(st.sampled_from(["a", "b", "tie", "skip", None, 0.25]), min_size=3, max_size=3), st.permutations(range(3))
)
def test_every_pair_is_labelled_skipped_or_missing(labels: list[Any], order: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        rows = [_label(ASKED[at].pair_id, labels[at]) for at in order]
        found = read_queue(_file(Path(folder), *rows), ASKED)
    assert sorted((*found.p, *found.skipped, *found.missing)) == sorted(one.pair_id for one in ASKED)
