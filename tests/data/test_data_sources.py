"""Files in every format are read afresh; a broken one is an error that says where."""

from __future__ import annotations

import gzip
import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest

from seralign.config import SourceConfig
from seralign.data.sources import fingerprint, load_rows
from seralign.errors import ConfigError, DataError

ROWS = [{"prompt": f"q{i}", "chosen": "NA", "rejected": f"b{i}"} for i in range(5)]


def source(path: Path | str, **options: Any) -> SourceConfig:
    return SourceConfig(path=str(path), **options)


def write(path: Path, text: str | bytes) -> Path:
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.json", "d.json.gz", "list.json", "d.csv", "d.csv.gz"])
def test_local_files_give_their_rows(tmp_path: Path, name: str) -> None:
    if "csv" in name:
        text = "prompt,chosen,rejected\n" + "".join(",".join(row.values()) + "\n" for row in ROWS)
    else:
        text = json.dumps(ROWS, indent=1) if name == "list.json" else lines(ROWS)
    assert load_rows(source(write(tmp_path / name, text)), "data.pairs").to_list() == ROWS


def test_parquet_limit_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    datasets.Dataset.from_list([row | {"better": row["chosen"]} for row in ROWS]).to_parquet(path)
    rows = load_rows(source(path, columns={"chosen": "rejected", "rejected": "better"}, limit=2), "data.pairs")
    assert rows[:]["chosen"] == ["b0", "b1"]
    assert rows[:]["rejected"] == ["NA", "NA"]


def test_rows_are_memory_mapped_not_held(tmp_path: Path, own_cache: Path) -> None:
    rows = load_rows(source(write(tmp_path / "d.jsonl", lines(ROWS))), "data.pairs")
    assert all(Path(file["filename"]).is_relative_to(own_cache) for file in rows.cache_files)
    assert rows.cache_files


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz"])
def test_an_edited_file_is_read_again_though_its_time_stamp_is_the_same(tmp_path: Path, name: str) -> None:
    seen = []
    for answer in ("one", "two"):
        path = write(tmp_path / name, lines([{"prompt": "q", "chosen": answer}]))
        os.utime(path, ns=(1, 1))
        seen.append((load_rows(source(path), "data.pairs")[0]["chosen"], fingerprint(source(path), "data.pairs")))
    assert [answer for answer, _ in seen] == ["one", "two"]
    assert seen[0][1] != seen[1][1]


def test_a_local_file_asks_the_hub_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(load_rows(source(write(tmp_path / "d.jsonl", lines(ROWS))), "data.pairs")) == 5


def test_the_fingerprint_is_of_the_contents(tmp_path: Path) -> None:
    # SHA-256 of the three bytes "abc" (FIPS 180-2, appendix B.1).
    digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    for name in ("a.jsonl", "b.csv"):
        assert fingerprint(source(write(tmp_path / name, "abc")), "data.pairs") == digest


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("d.jsonl", "", "is empty"),
        ("d.jsonl", "\n\n", "has no rows"),
        ("d.json", "[]", "has no rows"),
        ("d.csv", "a,b\n", "has no rows"),
        ("d.jsonl", '{"a": 1}\n\n{"a": \n{"a": 2}\n', "line 3 is not valid JSON"),
        ("d.jsonl.gz", '{"a": 1}\n{"a": "x\n', "line 2 is not valid JSON"),
        ("d.jsonl", '{"a": 1}\n{"a": 2', "line 2 is not valid JSON"),
        ("d.json", '[{"a": 1},\n {"a": }]', "line 2 is not valid JSON"),
        ("d.jsonl", '{"a": 1}\n5\n', "line 2 is not a JSON object"),
        ("d.jsonl", b'{"a": "x"}\n{"a": "\xff"}\n', "line 2 is not UTF-8"),
        ("d.csv", "a,b\n1,2\n1,2,3\n", "cannot be read: .*line 3"),
        ("d.parquet", "abc", "cannot be read"),
        ("d.txt", "abc", "unknown extension; known are .json"),
        ("d.parquet.gz", "abc", "unknown extension"),
    ],
)
def test_broken_files_are_named_with_the_line(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    path = write(tmp_path / name, text) if text else tmp_path / name
    path.touch()
    with pytest.raises(DataError, match=message) as caught:
        load_rows(source(path), "data.pairs")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_gzip(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl.gz").write_text(lines(ROWS))
    with pytest.raises(DataError, match=r"d.jsonl.gz .*cannot be read"):
        load_rows(source(tmp_path / "d.jsonl.gz"), "data.pairs")


@pytest.mark.parametrize("path", ["nothere.jsonl", "./nothere", "a/b/c", "x.csv.gz", "/no/file.txt", ""])
def test_a_path_that_is_not_there_is_no_hub_name(path: str) -> None:
    for read in (load_rows, fingerprint):
        with pytest.raises(DataError, match=r"data.heldout.path: no such file"):
            read(source(path), "data.heldout")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder; give one file"):
        load_rows(source(tmp_path), "data.pairs")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"columns": {"chosen": "good"}}, DataError, "no column 'good'; it has prompt, chosen, rejected"),
        ({"columns": {"chozen": "chosen"}}, ConfigError, "unknown column 'chozen'; ours are chosen"),
        ({"columns": {"chosen": "rejected", "prompt": "rejected"}}, ConfigError, "one name of ours only"),
        ({"limit": 0}, ConfigError, "limit must be at least 1"),
        ({"split": "test"}, ConfigError, "data.pairs.split goes with a hub data set"),
    ],
)
def test_options_that_cannot_be_honoured(tmp_path: Path, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        load_rows(source(write(tmp_path / "d.jsonl", lines(ROWS)), **options), "data.pairs")


def test_a_hub_name_goes_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def load(path: str, name: str | None, **options: Any) -> datasets.Dataset:
        asked.update(path=path, name=name, **options)
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *args, **options: SimpleNamespace(hash="c0ffee"))
    hub = source("owner/name-v1.5", name="sub", split="test[:3]", revision="v1")
    assert load_rows(hub, "data.pairs").to_list() == ROWS
    assert asked == {"path": "owner/name-v1.5", "name": "sub", "split": "test[:3]", "revision": "v1"}
    assert fingerprint(hub, "data.pairs") == "hub:c0ffee"


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    for read in (load_rows, fingerprint):
        with pytest.raises(DataError, match=r"data.pairs.path: 'owner/name' is neither a file here nor a data set"):
            read(source("owner/name"), "data.pairs")


def test_a_split_that_the_hub_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **options: Any) -> None:
        raise ValueError("Unknown split \"dev\". Should be one of ['train'].\nmore")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"Unknown split \"dev\". Should be one of \['train'\].$"):
        load_rows(source("owner/name", split="dev"), "data.pairs")
