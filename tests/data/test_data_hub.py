"""Datasets of a hub are read as files here are: nothing of a text is guessed at, and a mistake names its key."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stand_in_hub import Hub, commit_of, serve

READ = Path(__file__).with_name("read_hub.py")
CSV = "prompt,chosen,rejected\n" + "".join(f"q{i},{i},x\n" for i in range(3)) + "q3,007,3.10\nq4,True,2024-01-01\n"
JSON = [
    {"prompt": "q0", "chosen": "4", "rejected": "b", "chat_template_kwargs": {"a": 1}},
    {"prompt": "q1", "chosen": '{"a": 1}', "rejected": "2024-01-01", "chat_template_kwargs": {"b": {"c": None}}},
    {"prompt": [{"role": "user", "content": "q2"}], "chosen": "007", "rejected": "b"},
]
LINES = "".join(json.dumps(row) + "\n" for row in JSON)
CARD = """---
configs:
- config_name: easy
  data_files:
  - {split: train, path: easy/*.jsonl}
  - {split: dev, path: other/dev.jsonl}
- config_name: hard
  data_files: hard.csv
---
"""


def row(prompt: str) -> bytes:
    return (json.dumps({"prompt": prompt}) + "\n").encode()


def parquet(table: pa.Table) -> bytes:
    made = io.BytesIO()
    pq.write_table(table, made)
    return made.getvalue()


def repositories() -> dict[str, dict[str, bytes]]:
    nested = pa.table({"prompt": ["q"], "tool": [{"city": None, "zone": "UTC"}]})
    return {
        "some/csv": {"README.md": b"# Rows", "data.csv": CSV.encode()},
        "some/tsv": {"train.tsv": CSV.replace(",", "\t").encode()},
        "some/json": {"train.jsonl": LINES.encode(), "test.jsonl": row("t")},
        "some/gzip": {"train.json.gz": gzip.compress(json.dumps(JSON).encode())},
        "some/ndjson": {"data/train-1.ndjson": row("b"), "data/train-0.ndjson": row("a"), "[x].ndjson.txt": b""},
        "some/parquet": {"data/train-00000-of-00001.parquet": parquet(nested)},
        "some/configs": {
            "README.md": CARD.encode(), "easy/0[a].jsonl": row("e0"), "easy/1.jsonl": row("e1"),
            "other/dev.jsonl": row("d"), "hard.csv": b"prompt\n010\n",
        },
        "some/broken": {"train.jsonl": row("a") + b"{\n"},
        "some/text": {"train.txt": b"one\ntwo\n"},
        "some/options": {"README.md": b"---\nconfigs:\n- config_name: default\n  data_files: a.csv\n  sep: ;\n---\n",
                         "a.csv": b"prompt;chosen\n007;x\n"},
        "some/shards": {f"data/train-{number}.jsonl": row("a" * 400) * 500 for number in range(3)},
        "some/packed": {"a.jsonl.zst": pa.compress(row("z"), codec="zstd", asbytes=True),
                        "b.jsonl.bz2": bz2.compress(row("b")), "c.jsonl.xz": lzma.compress(row("x"))},
        "some/script": {"script.py": b"raise SystemExit(3)"},
        "some/gated": {"train.jsonl": row("g")},
    }  # fmt: skip


class Reader:
    """Reads sources of a hub, in a process whose caches are in a folder."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self.hub, self.home = hub, home

    def __call__(self, *sources: dict[str, Any], **environment: str) -> list[dict[str, Any]]:
        given = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.home)}
        given = {name: value for name, value in given.items() if name not in ("HF_TOKEN", "HF_DATASETS_CACHE")}
        done = subprocess.run(
            [sys.executable, str(READ)],
            input=json.dumps(sources),
            env=given | environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serve(Hub(repositories=repositories(), gated={"some/gated"})) as hub:
        yield Reader(hub, tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="module")
def found(read: Reader) -> dict[str, dict[str, Any]]:
    """What each source gives, read in one process."""
    sources: dict[str, dict[str, Any]] = {name: {"path": name} for name in repositories()}
    sources |= {
        "test": {"path": "some/json", "split": "test"},
        "easy": {"path": "some/configs", "name": "easy"},
        "dev": {"path": "some/configs", "name": "easy", "split": "dev"},
        "hard": {"path": "some/configs", "name": "hard"},
        "pinned": {"path": "some/json", "revision": commit_of(repositories()["some/json"]), "limit": 1},
        "no split": {"path": "some/json", "split": "dev"},
        "slice": {"path": "some/json", "split": "train[:2]"},
        "no name": {"path": "some/configs", "name": "middling"},
        "no revision": {"path": "some/json", "revision": "v9"},
        "no such": {"path": "some/thing"},
    }
    return dict(zip(sources, read(*sources.values()), strict=True))


def rows(found: dict[str, Any]) -> list[Any]:
    assert "rows" in found, found
    return [values for values, _ in found["rows"]]


@pytest.mark.parametrize("name", ["some/csv", "some/tsv"])
def test_text_of_a_table_stays_as_it_is(found: Any, name: str) -> None:
    got = rows(found[name])
    assert [each["chosen"] for each in got] == ["0", "1", "2", "007", "True"]
    assert [each["rejected"] for each in got[3:]] == ["3.10", "2024-01-01"]
    file = "data.csv" if name == "some/csv" else "train.tsv"
    assert found[name]["rows"][3][1] == f"{name}/{file} row 4 (line 5)"


def test_json_has_the_values_and_keys_that_it_has(found: Any) -> None:
    assert rows(found["some/json"]) == JSON
    assert rows(found["some/gzip"]) == JSON
    assert rows(found["pinned"]) == JSON[:1]


def test_nulls_of_a_table_are_taken_away(found: Any) -> None:
    assert rows(found["some/parquet"]) == [{"prompt": "q", "tool": {"zone": "UTC"}}]


def test_splits_and_configurations_are_those_of_the_hub(found: Any) -> None:
    assert rows(found["test"]) == [{"prompt": "t"}]
    assert rows(found["easy"]) == [{"prompt": "e0"}, {"prompt": "e1"}]
    assert rows(found["dev"]) == [{"prompt": "d"}]
    assert rows(found["hard"]) == [{"prompt": "010"}]
    assert rows(found["some/ndjson"]) == [{"prompt": "a"}, {"prompt": "b"}]


def test_the_fingerprint_is_the_commit(found: Any) -> None:
    for name in ("some/json", "some/csv", "some/text"):
        assert found[name]["fingerprint"] == f"hub:{commit_of(repositories()[name])}"
    assert found["pinned"]["fingerprint"] == found["some/json"]["fingerprint"]


def test_other_formats_are_read_by_datasets(found: Any) -> None:
    assert rows(found["some/text"]) == [{"text": "one"}, {"text": "two"}]
    assert rows(found["some/options"]) == [{"prompt": 7, "chosen": "x"}]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("no split", "data.pairs.split: some/json has no split 'dev'; it has train, test"),
        ("slice", "data.pairs.split: some/json has no split 'train[:2]'; it has train, test "
         "(for the first rows of a split, set data.pairs.limit)"),
        ("some/configs", "data.pairs.name: 'some/configs' needs the name of a configuration; it has easy, hard"),
        ("no name", "data.pairs.name: 'some/configs' has no configuration 'middling'; it has easy, hard"),
        ("no revision", "data.pairs.revision: 'some/json' has no revision 'v9' on the hub"),
        ("no such", "data.pairs.path: 'some/thing' is neither a file here nor a dataset on the hub that you may read"),
        ("some/gated", "data.pairs.path: 'some/gated' is gated: request access at "),
        ("some/script", "data.pairs.path: there is no file 'some/script' here, and the hub dataset cannot be loaded: "),
        ("some/broken", "some/broken/train.jsonl row 2 spans several lines"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_key(found: Any, name: str, error: str) -> None:
    assert found[name]["error"].startswith(error)
    assert "\n" not in found[name]["error"]


def test_what_was_downloaded_is_read_without_a_network(found: Any, read: Reader) -> None:
    here = {"path": "some/json"}
    others = [{"path": "some/thing"}, {"path": "some/configs", "name": "easy", "split": "test"}]
    again, *refused = read(here, *others, HF_HUB_OFFLINE="1")
    assert again == found["some/json"]
    for other in refused:
        assert "the hub cannot be reached" in other["error"]
        assert other["error"].startswith("data.pairs.path: ")


def test_an_endpoint_that_does_not_answer_is_no_network(found: Any, read: Reader) -> None:
    nowhere = "http://127.0.0.1:9"
    again, refused = read({"path": "some/json"}, {"path": "some/thing"}, HF_ENDPOINT=nowhere)
    assert again == found["some/json"]
    says = (
        f"data.pairs.path: there is no file 'some/thing' here, and the hub cannot be reached: {nowhere} (HF_ENDPOINT): "
    )
    assert refused["error"].startswith(says)


def test_only_the_files_of_the_split_are_downloaded(found: Any, read: Reader) -> None:
    downloaded = {path.name for path in read.home.rglob("snapshots/*/*") if "some--json" in str(path)}
    assert downloaded == {"train.jsonl", "test.jsonl"}


def test_a_file_that_was_not_downloaded_whole_is_asked_for_again(read: Reader, tmp_path: Path) -> None:
    """A download that broke off leaves some of the files; without a network they are not taken for all."""
    apart = Reader(read.hub, tmp_path)
    assert rows(apart({"path": "some/ndjson"})[0]) == [{"prompt": "a"}, {"prompt": "b"}]
    next(tmp_path.rglob("snapshots/*/data/train-1.ndjson")).unlink()
    assert (
        "data.pairs.path: there is no file 'some/ndjson' here"
        in apart({"path": "some/ndjson"}, HF_HUB_OFFLINE="1")[0]["error"]
    )
    assert rows(apart({"path": "some/ndjson"})[0]) == [{"prompt": "a"}, {"prompt": "b"}]


STREAMED = ["some/csv", "some/tsv", "some/json", "some/gzip", "some/ndjson", "some/parquet", "some/packed"]


def test_a_streamed_dataset_has_the_same_rows_and_is_not_stored(found: Any, read: Reader, tmp_path: Path) -> None:
    apart, before = Reader(read.hub, tmp_path), len(read.hub.asked)
    shards = {"path": "some/shards", "streaming": True, "limit": 500}
    *streamed, first, text, script = apart(
        *({"path": name, "streaming": True} for name in STREAMED), shards,
        {"path": "some/text", "streaming": True}, {"path": "some/options", "streaming": True},
    )  # fmt: skip
    assert streamed == [found[name] for name in STREAMED]
    assert {
        path.name for path in tmp_path.rglob("*") if path.suffix in (".jsonl", ".csv", ".parquet", ".arrow")
    } == set()

    assert len(first["rows"]) == 500
    asked = {path.rpartition("/")[2] for path in read.hub.asked[before:] if path.startswith("/datasets/some/shards/")}
    assert {name for name in asked if name.startswith("train")} == {"train-0.jsonl"}, "the limit needs one shard"
    for refused in (text, script):
        assert refused["error"].startswith("data.pairs.streaming: only .json, ")


def test_a_hub_that_fails_while_it_is_streamed_is_one_error_that_names_the_file(read: Reader, tmp_path: Path) -> None:
    whole = read.hub.repositories["some/shards"]
    read.hub.lost.add("data/train-2.jsonl")
    try:
        (given,) = Reader(read.hub, tmp_path)({"path": "some/shards", "streaming": True})
    finally:
        read.hub.lost.clear()
    assert set(whole) == {f"data/train-{number}.jsonl" for number in range(3)}
    assert given["error"].startswith("some/shards/data/train-2.jsonl cannot be read: ")
    assert "\n" not in given["error"]
