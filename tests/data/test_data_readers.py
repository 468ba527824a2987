"""Rows are what their file says: no text is rewritten, nothing is added, and what is wrong names the row at fault."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seralign.config import SourceConfig
from seralign.data.readers.csv_rows import csv_part
from seralign.data.readers.json_rows import MAX_DEPTH, json_part
from seralign.data.readers.part import Part
from seralign.data.sources import load_rows
from seralign.errors import DataError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
# CSV files are refused with a NUL byte, and an empty cell is null.
CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def read(path: Path, content: str | bytes, **options: Any) -> list[dict[str, Any]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(load_rows(SourceConfig(str(path), **options), "data.pairs"))


def places(path: Path) -> list[str]:
    return [where.removeprefix(f"{path} ") for _, where in load_rows(SourceConfig(str(path)), "k").located()]


def json_rows(content: str) -> Part:
    return json_part("d.jsonl", lambda: io.BytesIO(content.encode()))


def csv_rows(content: str) -> Part:
    return csv_part("d.csv", lambda: io.BytesIO(content.encode()), ",")


def error_of(path: Path, content: str | bytes) -> str:
    with pytest.raises(DataError) as caught:
        read(path, content)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(f"{path} ")


# Text as it stands


@given(st.lists(st.dictionaries(TEXT, VALUE, max_size=3), max_size=4), st.booleans(), st.sampled_from([None, 1]))
def test_json_values_come_back_as_they_went(rows: list[dict], ascii_only: bool, indent: int | None) -> None:
    in_lines = "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)
    in_list = json.dumps(rows, ensure_ascii=ascii_only, indent=indent)
    for content in (in_lines, in_list):
        assert json.dumps([values for values, _ in json_rows(content).read()]) == json.dumps(rows)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5), st.booleans())
def test_csv_text_comes_back_as_it_went(cells: list[tuple[str, str]], quotes: bool) -> None:
    stream = io.StringIO()
    # The csv module leaves a carriage return without quotes where lines end with a line feed alone.
    how = {"quoting": csv.QUOTE_ALL, "lineterminator": "\n"} if quotes else {"lineterminator": "\r\n"}
    csv.writer(stream, **how).writerows([("chosen", "rejected"), *cells])
    rows = [values for values, _ in csv_rows(stream.getvalue()).read()]
    assert rows == [{"chosen": chosen, "rejected": rejected} for chosen, rejected in cells]


LIKE_NUMBERS = [
    "007",
    "3.10",
    "1e5",
    "+1",
    "True",
    "false",
    "NA",
    "nan",
    "None",
    "null",
    "2024-01-01",
    "[1]",
    '{"a": 1}',
    " x ",
]


def test_csv_cells_are_text_however_late_they_come(tmp_path: Path) -> None:
    stream = io.StringIO()
    texts = ["word"] * 10_000 + LIKE_NUMBERS
    csv.writer(stream).writerows([("prompt", "chosen"), *(("q", text) for text in texts), ("q", "")])
    rows = read(tmp_path / "d.csv", stream.getvalue())
    assert [row["chosen"] for row in rows] == [*texts, None]


def test_a_column_of_text_and_messages_keeps_both(tmp_path: Path) -> None:
    chat = [{"role": "assistant", "content": "Hi"}]
    rows = [{"chosen": chat}, {"chosen": json.dumps(chat)}, {"chosen": "4"}, {"chosen": 4}, {"other": None}]
    assert read(tmp_path / "d.jsonl", "\n".join(map(json.dumps, rows))) == rows


def test_nulls_of_the_author_stay_in_json(tmp_path: Path) -> None:
    rows = [{"a": {"city": None, "zone": "UTC"}}, {"a": {"city": "Rome"}}]
    assert read(tmp_path / "d.json", json.dumps(rows)) == rows


def test_nulls_that_a_table_added_are_taken_away_at_every_depth(tmp_path: Path) -> None:
    def call(**arguments: Any) -> list[dict]:
        return [{"role": "assistant", "tool_calls": [{"function": {"arguments": arguments}}]}]

    rows = [
        {"prompt": call(city="Rome"), "tools": {"a": {"x": [1, None]}}, "p": None},
        {"prompt": call(zone="UTC", deep={"list": [{"k": 1}, {"l": "v"}]}), "tools": {"a": {}}, "p": 0.5},
    ]
    table = pa.Table.from_pylist(rows)
    assert table.to_pylist() != rows
    pq.write_table(table, tmp_path / "d.parquet")
    datasets.Dataset(table).save_to_disk(tmp_path / "saved")
    for name in ("d.parquet", "saved"):
        assert list(load_rows(SourceConfig(str(tmp_path / name)), "k")) == rows


def test_parquet_types(tmp_path: Path) -> None:
    columns = {
        "text": pa.array(["007", "[1]"]),
        "large": pa.array(["a", None], pa.large_string()),
        "kinds": pa.array(["x", "x"]).dictionary_encode(),
        "p": pa.array(["0.25", "1"]).cast(pa.decimal128(5, 2)),
        "map": pa.array([[("k", {"a": 1})], None], pa.map_(pa.string(), pa.struct({"a": pa.int8(), "b": pa.int8()}))),
        "ids": pa.array([[1, 2], []], pa.large_list(pa.int32())),
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    assert list(load_rows(SourceConfig(str(tmp_path / "d.parquet")), "k")) == [
        {"text": "007", "large": "a", "kinds": "x", "p": 0.25, "map": {"k": {"a": 1}}, "ids": [1, 2]},
        {"text": "[1]", "large": None, "kinds": "x", "p": 1.0, "map": None, "ids": []},
    ]


def test_values_that_datasets_stores_as_json(tmp_path: Path) -> None:
    made = datasets.Dataset.from_dict(
        {"tools": [[{"b": None}, {"c": [0]}], None], "m": ["x", [1]]}, on_mixed_types="use_json"
    )
    made.to_parquet(tmp_path / "d.parquet")
    made.save_to_disk(tmp_path / "saved")
    for name in ("d.parquet", "saved"):
        rows = list(load_rows(SourceConfig(str(tmp_path / name)), "k"))
        assert rows == [{"tools": [{"b": None}, {"c": [0]}], "m": "x"}, {"tools": None, "m": [1]}]


# Numbers in CSV


def test_numbers_in_csv(tmp_path: Path) -> None:
    text = "prompt,likely,weight,pair_id\n1,0.2,2,007\n2,,,8\n3, 1e-1 ,.5,9\n"
    assert read(tmp_path / "d.csv", text, columns={"p": "likely"}) == [
        {"prompt": "1", "p": 0.2, "weight": 2.0, "pair_id": "007"},
        {"prompt": "2", "p": None, "weight": None, "pair_id": "8"},
        {"prompt": "3", "p": 0.1, "weight": 0.5, "pair_id": "9"},
    ]


@pytest.mark.parametrize("text", ["high", "nan", "inf", "1_0", "٣", "0x1", "0,5", "-", "1.2.3", "1\x1c2"])
def test_a_number_in_csv_that_is_none(tmp_path: Path, text: str) -> None:
    content = f'prompt,p\n"two\nlines",1\nq,"{text}"\n'
    assert error_of(tmp_path / "d.csv", content) == f"row 2 (line 4): p must be a number, got {text!r}"


def test_text_is_no_number_in_json(tmp_path: Path) -> None:
    assert read(tmp_path / "d.jsonl", '{"p": "0.2"}') == [{"p": "0.2"}]


# Places


def test_a_row_has_the_line_of_an_editor(tmp_path: Path) -> None:
    cases = {
        "a.jsonl": ('\n{"a": 1}\r\n \t\n{"a": 2}', ["row 1 (line 2)", "row 2 (line 4)"]),
        "b.jsonl": ('{"a": 1}\n{"a": 2}\n', ["row 1", "row 2"]),
        "c.json": ('[{"a": 1}, {"a":\n 2},\n\n{"a": 3}]', ["row 1", "row 2 (line 1)", "row 3 (line 4)"]),
        "d.csv": ('a,b\n1,"x\ny"\n\n2,z\r\n3,w', ["row 1 (line 2)", "row 2 (line 5)", "row 3 (line 6)"]),
        "e.csv": ("a\r1\r2\r", ["row 1 (line 2)", "row 2 (line 3)"]),
        "f.csv": ('\ufeff"a"\n1', ["row 1 (line 2)"]),
    }
    for name, (content, expected) in cases.items():
        (tmp_path / name).write_bytes(content.encode())
        assert places(tmp_path / name) == expected, name


@pytest.mark.parametrize("name", ["d.jsonl", "list.json", "d.csv"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, name: str) -> None:
    text = {"d.jsonl": '{"a": "x"}', "list.json": '[{"a": "x"}]', "d.csv": "a\nx\n"}[name]
    assert read(tmp_path / name, "\ufeff" + text) == [{"a": "x"}]


# What is wrong


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "(data.pairs) has no rows"),
        ("[]", "(data.pairs) has no rows"),
        ("null", "row 1 is null; a row is a JSON object with the columns' names as keys"),
        ("null\n{}", "row 1 is null; a row is a JSON object with the columns' names as keys"),
        ('{"a": 1}\n5', "row 2 is a number; a row is a JSON object with the columns' names as keys"),
        ('{"a": 1}\n\n[]', "row 2 (line 3) is a list; a row is a JSON object with the columns' names as keys"),
        ('{\n "a": 1\n}', "row 1 spans several lines; JSON must be a list of objects, or one object a line"),
        ('[{"a": 1},\n "x"]', "row 2 is a text; a row is a JSON object with the columns' names as keys"),
        ('{"a": 1}\n\n{"a": \n{}', "row 2 (line 3) is not valid JSON: Expecting value at column 7"),
        ('{"a": 1}\n{"a": 2', "row 2 is not valid JSON: Expecting ',' delimiter at column 8"),
        ('{"a": 1} {"a": 2}', "row 1 is not valid JSON: more text follows its end, at column 10"),
        ('[{"a": 1},\n {"b":\n }]', "row 2 is not valid JSON: Expecting value at line 3 column 2"),
        ('[{"a": 1}\n {"a": 2}]', "row 1 is not followed by a comma or the end of the list; is the file truncated?"),
        ('[{"a": 1}', "row 1 is not followed by a comma or the end of the list; is the file truncated?"),
        ('[{"a": 1},', "row 2 (line 1) is not valid JSON: Expecting value at column 11"),
        ("[", "row 1 is not valid JSON: Expecting value at column 2"),
        ('[{}]\n{"a": 1}', "is not valid JSON: more text follows the end of the list, on line 2"),
        ('{}\n{"a": 1, "b": {"c": 1, "c": 2}}', "row 2 is not valid JSON: the key 'c' occurs twice in one object"),
        ('{"p": NaN}', "row 1 is not valid JSON: NaN is not a JSON number; leave the value out or write null"),
        ('{"p": [-Infinity]}',
         "row 1 is not valid JSON: -Infinity is not a JSON number; leave the value out or write null"),
        ('{"p": 1e999}', "row 1 is not valid JSON: the number 1e999 is too large"),
        ('{"p": ' + "9" * 5000 + "}", "row 1 holds a number with too many digits"),
        ('{"a": "\\ud83d\\ude00"}\n{"a": "x\\uD83D"}',
         "row 2 holds \\ud83d, half of a surrogate pair, which is not a character"),
        ('{"a": ' + "[" * 3000 + "]" * 3000 + "}", f"row 1 is nested too deeply; at most {MAX_DEPTH} levels"),
        ('[{"a": ' + "[" * 150 + "]" * 150 + "}]", f"row 1 is nested too deeply; at most {MAX_DEPTH} levels"),
        (b'{"a": "x"}\n{"a": "\xff"}', "line 2 is not UTF-8 text"),
        (b'[{"a": "x"},\n{"a": "\xff"}]', "line 2 is not UTF-8 text"),
        ('{"a": 1}'.encode("utf-16"), "line 1 is not UTF-8 text (the file is UTF-16; save it as UTF-8)"),
        ('{"a": "a\tb"}', "row 1 is not valid JSON: Invalid control character at at column 9"),
    ],
)  # fmt: skip
def test_broken_json(tmp_path: Path, content: str | bytes, message: str) -> None:
    for name in ("d.json", "d.jsonl"):
        assert error_of(tmp_path / name, content) == message


def test_as_deep_as_is_read(tmp_path: Path) -> None:
    inner: Any = "x"
    for _ in range(MAX_DEPTH - 2):
        inner = [inner]
    # The row itself is a level, and so is its text.
    assert read(tmp_path / "d.jsonl", json.dumps({"a": inner, "b": [[]] * 200})) == [{"a": inner, "b": [[]] * 200}]
    assert "nested too deeply" in error_of(tmp_path / "d.jsonl", json.dumps({"a": [[inner]]}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "(data.pairs) has no rows"),
        ("a;b\n1;2\n", "has semicolons between its cells; a .csv file needs commas, and a .tsv file tabs"),
        ("a\tb\n1\t2\n", "has tabs between its cells"),
        ("a|b\n1|2\n", "has bars between its cells"),
        (
            gzip.compress(b"a,b\n1,2\n", mtime=0),
            "line 1 is not UTF-8 text (the file is compressed with gzip; its name must end in",
        ),
        ("a,b\n1,2\n1,2,3\n", "row 2 (line 3) has 3 cells and the header 2; a cell that holds a delimiter"),
        ("a,b\n\n1\n", "row 1 (line 3) has 1 cells and the header 2; a cell that holds a delimiter"),
        ("a,b,a\n1,2,3\n", "has two columns named 'a'; rename one of them"),
        ('a,b\n1,"2\n\n3,4\n', "row 1 (line 2) opens a quote that is never closed"),
        ('"a,b\n1,2\n', "line 1 opens a quote that is never closed"),
        ('a,b\n1,2\n1,"x"y\n', "row 2 (line 3) has more text after a closing quote; a quote inside a cell is"),
        ("a,b\n1,2\rx\n", "row 1 (line 2) holds a carriage return; a cell that holds one needs quotes"),
        ("a,b\n1,\0\n", "line 2 holds a NUL byte; a CSV file is UTF-8 text"),
        (b"a,b\n1,2\n1,\xe9\n", "line 3 is not UTF-8 text"),
        ("a,b\n1,2\n".encode("utf-16"), "line 1 is not UTF-8 text (the file is UTF-16; save it as UTF-8)"),
    ],
)
def test_broken_csv(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert error_of(tmp_path / "d.csv", content).startswith(message)


def test_a_cell_longer_than_the_csv_module_takes(tmp_path: Path) -> None:
    assert read(tmp_path / "d.csv", f"a\n{'x' * 200_000}\n") == [{"a": "x" * 200_000}]


def test_a_quote_that_takes_in_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seralign.data.readers.csv_rows.MAX_CELL", 1000)
    message = error_of(tmp_path / "d.csv", 'a,b\n1,2\n3,"4\n' + "5,6\n" * 1000)
    assert message == "row 2 (line 3) has a cell of more than 1,000 characters; is a quote never closed?"


def test_broken_parquet(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    assert error_of(path, "") == "is empty"
    assert error_of(path, "abc").startswith("cannot be read: ")
    pq.write_table(pa.table({"a": [str(i) for i in range(10_000)]}), path)
    content = path.read_bytes()
    assert error_of(path, content[:-100]).startswith("cannot be read: ")
    assert error_of(path, content[:200] + bytes(2000) + content[2200:]).startswith("cannot be read: ")
    pq.write_table(pa.table([[1], [2]], ["a", "a"]), path)
    assert error_of(path, path.read_bytes()).startswith("has two columns named 'a'")


def test_parquet_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"prompt-as-asked": ["q"]}), path, compression="none", store_schema=False)
    content = path.read_bytes().replace(b"prompt-as-asked", b"prompt\xffas-asked")
    assert error_of(path, content) == "cannot be read: it holds names that are not UTF-8 text"


def test_parquet_text_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    texts = pa.array([b"ok"] * 700 + [b"\xff"] + [b"ok"] * 50).view(pa.string())
    pq.write_table(pa.table({"a": texts}), path)
    assert error_of(path, path.read_bytes()).startswith("row 701 cannot be read: ")


@settings(max_examples=200)
@given(
    st.binary(max_size=60),
    st.sampled_from([".jsonl", ".csv", ".parquet", ".jsonl.gz", ".csv.zst", ".csv.bz2", ".jsonl.xz"]),
)
def test_any_bytes_are_rows_or_one_error(tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{kind}"
    message = ""
    try:
        assert read(path, content)
    except DataError as error:
        message = str(error)
    assert not message or message.startswith(str(path))
    assert "\n" not in message
