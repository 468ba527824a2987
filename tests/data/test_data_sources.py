"""Which files a source names, and what its rows are called; a source that cannot be read is an error that says why."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import pyarrow as pa
import pytest

from seralign.config import SourceConfig, load_config
from seralign.data.sources import describe, fingerprint, load_rows
from seralign.errors import ConfigError, DataError

ROWS = [{"prompt": f"q{i}", "chosen": "NA", "rejected": f"b{i}"} for i in range(5)]
# SHA-256 of the three bytes "abc" (FIPS 180-2, appendix B.1).
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def source(path: Path | str | list[str], **options: Any) -> SourceConfig:
    return SourceConfig(path=path if isinstance(path, list) else str(path), **options)


def packed(content: bytes, packing: str) -> bytes:
    compress = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}.get(packing)
    if compress is not None:
        return compress(content)
    return pa.compress(content, codec="zstd", asbytes=True) if packing == ".zst" else content


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed(text.encode() if isinstance(text, str) else text, path.suffix))
    return path


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def shard(path: Path, *prompts: str) -> Path:
    return write(path, lines([{"prompt": prompt} for prompt in prompts]))


def prompts(path: Path | str | list[str], **options: Any) -> list[str]:
    return [row["prompt"] for row in load_rows(source(path, **options), "data.prompts")]


@pytest.mark.parametrize("packing", ["", ".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.ndjson", "list.json", "d.csv", "d.tsv", "D.JSONL"])
def test_local_files_give_their_rows(tmp_path: Path, name: str, packing: str) -> None:
    if name in ("d.csv", "d.tsv"):
        comma = "," if name == "d.csv" else "\t"
        text = "".join(comma.join(cells) + "\n" for cells in [ROWS[0], *(row.values() for row in ROWS)])
    else:
        text = json.dumps(ROWS, indent=1) if name == "list.json" else lines(ROWS)
    assert list(load_rows(source(write(tmp_path / f"{name}{packing}", text)), "data.pairs")) == ROWS


def test_rows_are_taken_by_number_too(tmp_path: Path) -> None:
    rows = load_rows(source(write(tmp_path / "d.jsonl", lines(ROWS))), "data.pairs")
    assert (len(rows), rows.column_names) == (5, ["prompt", "chosen", "rejected"])
    assert [rows[i]["prompt"] for i in (0, 4, -1, -5)] == ["q0", "q4", "q4", "q0"]
    for index in (5, -6):
        with pytest.raises(IndexError, match=f"row {index} of 5"):
            rows[index]


def test_parquet_limit_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    datasets.Dataset.from_list([row | {"better": row["chosen"]} for row in ROWS]).to_parquet(path)
    rows = load_rows(source(path, columns={"chosen": "rejected", "rejected": "better"}, limit=2), "data.pairs")
    # The file's own chosen gives way, under a name that tells so.
    read = [{"prompt": f"q{i}", "chosen of the file": "NA", "chosen": f"b{i}", "rejected": "NA"} for i in range(2)]
    assert list(rows) == read
    assert rows.column_names == list(read[0])


def test_columns_are_those_that_any_row_has(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", '{"prompt": "a", "note": 1}\n{"prompt": "b", "good": "c", "chosen": "no"}\n')
    rows = load_rows(source(path, columns={"chosen": "good"}), "data.pairs")
    assert rows.column_names == ["prompt", "note", "chosen", "chosen of the file"]
    # What is mapped to chosen is absent in the first row, and the file's own chosen is not taken instead.
    assert list(rows) == [{"prompt": "a", "note": 1}, {"prompt": "b", "chosen": "c", "chosen of the file": "no"}]


def test_only_the_rows_up_to_the_limit_are_read(tmp_path: Path) -> None:
    shard(tmp_path / "s" / "a.jsonl", "1", "2")
    write(tmp_path / "s" / "b.jsonl", '{"prompt": "3"}\nbroken\n')
    write(tmp_path / "s" / "c.jsonl", "broken\n")
    assert prompts(tmp_path / "s", limit=1) == ["1"]
    assert prompts(tmp_path / "s", limit=3) == ["1", "2", "3"]
    with pytest.raises(DataError, match=r"s/b.jsonl row 2 is not valid JSON"):
        prompts(tmp_path / "s", limit=4)


def test_a_local_file_asks_the_hub_nothing_and_needs_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "/dev/null/x")
    datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "d.parquet")
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    write(tmp_path / "d.jsonl", lines(ROWS))
    for name in ("d.jsonl", "d.parquet", "saved"):
        assert list(load_rows(source(tmp_path / name), "data.pairs")) == ROWS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.jsonl", "d.parquet", "saved"]


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz"])
def test_an_edited_file_is_read_again_though_its_time_stamp_is_the_same(tmp_path: Path, name: str) -> None:
    seen = []
    for answer in ("one", "two"):
        path = write(tmp_path / name, lines([{"prompt": "q", "chosen": answer}]))
        os.utime(path, ns=(1, 1))
        seen.append((load_rows(source(path), "data.pairs")[0]["chosen"], fingerprint(source(path), "data.pairs")))
    assert [answer for answer, _ in seen] == ["one", "two"]
    assert seen[0][1] != seen[1][1]


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Forty times the rows take no more memory; tracemalloc would not see Arrow's, so the process is asked."""
    kinds = [".jsonl", ".csv", ".parquet", ".jsonl.zst"]
    for count in (1_000, 40_000):
        texts = [f"{i:01000}" for i in range(count)]
        datasets.Dataset.from_dict({"prompt": texts}).to_parquet(tmp_path / f"{count}.parquet", batch_size=1000)
        in_json = lines([{"prompt": text} for text in texts])
        for kind, content in [(".jsonl", in_json), (".jsonl.zst", in_json), (".csv", "\n".join(["prompt", *texts]))]:
            write(tmp_path / f"{count}{kind}", content)
    # VmHWM is the most memory that this process ever had, in kB; ru_maxrss begins with its parent's.
    code = (
        "import sys; from seralign.config import SourceConfig; from seralign.data.sources import load_rows\n"
        "for path in sys.argv[1:]:\n"
        "    read = sum(len(row['prompt']) for row in load_rows(SourceConfig(path), 'k'))\n"
        "    print(read, next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    paths = [str(tmp_path / f"{count}{kind}") for count in (1_000, 40_000) for kind in kinds]
    # One arena: how glibc spreads the blocks of many threads over arenas differs between machines.
    environment = os.environ | {"MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True, env=environment
    )
    read, peaks = zip(*(map(int, line.split()) for line in done.stdout.splitlines()), strict=True)
    assert read == (1_000_000,) * 4 + (40_000_000,) * 4
    # To hold 39,000 rows of 1,000 characters would take 39,000 kB and more; readers' own buffers take up to 15,000.
    assert peaks[-1] - peaks[3] < 25_000


# Several files


def test_a_list_of_files_is_read_in_its_order(tmp_path: Path) -> None:
    b, a = shard(tmp_path / "b.jsonl", "3"), write(tmp_path / "a.csv", "prompt\n1\n2\n")
    assert prompts([str(b), str(a)]) == ["3", "1", "2"]
    places = [where for _, where in load_rows(source([str(b), str(a)]), "data.prompts").located()]
    assert places == [f"{b} row 1", f"{a} row 1 (line 2)", f"{a} row 2 (line 3)"]


def test_a_list_comes_from_yaml(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("out: x\nworld: {}\ndata: {pairs: {path: [a.jsonl, 'b*.csv']}}\n")
    pairs = load_config(tmp_path / "run.yaml").data.pairs
    assert pairs is not None
    assert pairs.path == ["a.jsonl", "b*.csv"]
    assert describe(pairs) == "a.jsonl, b*.csv"
    assert describe(source([f"{i}.csv" for i in range(9)])) == "0.csv, 1.csv, 2.csv and 6 more"


def test_a_folder_of_shards_is_read_by_name(tmp_path: Path) -> None:
    for name, text in [("c.jsonl.zst", "3"), ("a.jsonl", "1"), ("b.jsonl.gz", "2")]:
        shard(tmp_path / "s" / name, text)
    for name in (".hidden.jsonl", "_SUCCESS", "README.md", ".cache/x.jsonl"):
        write(tmp_path / "s" / name, "no rows")
    assert prompts(tmp_path / "s") == ["1", "2", "3"]
    assert prompts([str(shard(tmp_path / "t" / "training.jsonl", "4")), str(tmp_path / "s")]) == ["4", "1", "2", "3"]
    assert prompts(tmp_path / "t") == ["4"]
    where = [where for _, where in load_rows(source(tmp_path / "s"), "data.prompts").located()]
    assert where == [f"{tmp_path}/s/{name} row 1" for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst")]


def test_the_columns_of_shards_are_put_together(tmp_path: Path) -> None:
    for name, column in (("a", "x"), ("b", "y")):
        datasets.Dataset.from_list([{"prompt": "q", column: 1}]).to_parquet(tmp_path / f"{name}.parquet")
    rows = load_rows(source(tmp_path), "data.pairs")
    assert rows.column_names == ["prompt", "x", "y"]
    assert list(rows) == [{"prompt": "q", "x": 1}, {"prompt": "q", "y": 1}]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.jsonl": "{}", "b.csv": "a\n1\n"}, r"mixes .csv and .jsonl files; give the ones to read"),
        ({"README.md": "no"}, r"has no data files; known are .json"),
        ({}, r"has no data files"),
        ({"a.jsonl": "{}", "b.jsonl.lz4": "x"}, r"b.jsonl.lz4 has an unsupported compression"),
        ({"a.jsonl": "{}", "more/b.jsonl": "{}"}, r"the data files are in a subfolder of .*, more; give the folder"),
        ({"train/deep/b.parquet": "x"}, r"the data files are in a subfolder of .*, train; .*/s/\*\*/\*.parquet$"),
        ({"a.jsonl": "{}", "b.jsonl": ""}, r"b.jsonl is empty"),
        (
            {"train-00.jsonl": "{}", "train-01.jsonl": "{}", "my_test.jsonl": "{}"},
            r"has files of several splits, my_test.jsonl and train-00.jsonl; give the ones to read",
        ),
    ],
)
def test_a_folder_that_cannot_be_read_as_shards(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        write(tmp_path / "s" / name, text)
    (tmp_path / "s").mkdir(exist_ok=True)
    with pytest.raises(DataError, match=message) as caught:
        load_rows(source(tmp_path / "s"), "data.pairs")
    assert str(tmp_path / "s") in str(caught.value)


def test_a_glob_is_read_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b-1", "a-1", "a-2", "x/a-3"):
        shard(tmp_path / f"{name}.jsonl", name)
    assert prompts(tmp_path / "a-*.jsonl") == ["a-1", "a-2"]
    assert prompts(tmp_path / "?-[12].jsonl") == ["a-1", "a-2", "b-1"]
    assert prompts(tmp_path / "**" / "a-*.jsonl") == ["a-1", "a-2", "x/a-3"]
    monkeypatch.chdir(tmp_path)
    assert prompts("a-*.jsonl") == ["a-1", "a-2"]
    assert prompts(["b-*.jsonl", "x/*.jsonl"]) == ["b-1", "x/a-3"]
    with pytest.raises(DataError, match=r"data.prompts.path: no file matches 'c-\*.jsonl'"):
        prompts("c-*.jsonl")
    with pytest.raises(DataError, match=r"data.prompts.path: a-1.jsonl is listed twice"):
        prompts(["a-1.jsonl", "a-*.jsonl"])


@pytest.mark.parametrize("name", ["d[12].jsonl", "d*.jsonl", "d?.jsonl", "[a].jsonl", "{a,b}.jsonl", "a::b.jsonl"])
def test_a_file_with_wildcards_in_its_name_is_that_file(tmp_path: Path, name: str) -> None:
    for other in ("d1.jsonl", "d2.jsonl", "dx.jsonl", "a.jsonl", "b.jsonl"):
        shard(tmp_path / other, f"another file: {other}")
    shard(tmp_path / name, "this one")
    assert prompts(tmp_path / name) == ["this one"]
    parquet = (tmp_path / name).with_suffix(".parquet")
    datasets.Dataset.from_list([{"prompt": "a table"}]).to_parquet(tmp_path / "plain.parquet")
    (tmp_path / "plain.parquet").rename(parquet)
    assert prompts(parquet) == ["a table"]
    assert fingerprint(source(tmp_path / name), "k") == fingerprint(
        source(shard(tmp_path / "z.jsonl", "this one")), "k"
    )


def test_a_folder_with_wildcards_in_its_name_is_that_folder(tmp_path: Path) -> None:
    shard(tmp_path / "run[1]" / "a.jsonl", "this one")
    shard(tmp_path / "run1" / "a.jsonl", "another")
    assert prompts(tmp_path / "run[1]") == ["this one"]
    assert prompts(tmp_path / "run[1]" / "*.jsonl") == ["this one"]
    datasets.Dataset.from_list([{"prompt": "saved"}]).save_to_disk(tmp_path / "s")
    (tmp_path / "s").rename(tmp_path / "s[1]::*")
    assert prompts(tmp_path / "s[1]::*") == ["saved"]


def test_a_saved_data_set(tmp_path: Path) -> None:
    made = datasets.Dataset.from_list(ROWS)
    made.save_to_disk(tmp_path / "one", num_shards=2)
    assert list(load_rows(source(tmp_path / "one"), "data.pairs")) == ROWS
    assert [where for _, where in load_rows(source(tmp_path / "one"), "k").located()][4] == f"{tmp_path}/one row 5"
    with pytest.raises(ConfigError, match=r"data.pairs.split: .*/one is one dataset without splits"):
        load_rows(source(tmp_path / "one", split="test"), "data.pairs")

    splits = {"train": made, "test": made.select([3])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "dict")
    assert list(load_rows(source(tmp_path / "dict"), "data.pairs")) == ROWS
    assert list(load_rows(source(tmp_path / "dict", split="test"), "data.pairs")) == ROWS[3:4]
    assert fingerprint(source(tmp_path / "dict"), "k") != fingerprint(source(tmp_path / "dict", split="test"), "k")
    with pytest.raises(DataError, match=r"data.pairs.split: .*/dict has no split 'dev'; it has train, test"):
        load_rows(source(tmp_path / "dict", split="dev"), "data.pairs")


def test_a_saved_data_set_that_is_cut_off(tmp_path: Path) -> None:
    """Also where its 1,000 rows of a batch are whole: Arrow's own readers take the rest for a whole file."""
    datasets.Dataset.from_list([{"prompt": "q"}] * 1001).save_to_disk(tmp_path)
    path = tmp_path / "data-00000-of-00001.arrow"
    whole = path.read_bytes()
    assert len(prompts(tmp_path)) == 1001
    for end in range(8, len(whole), 8):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=rf"^{tmp_path} cannot be read: \S"):
            load_rows(source(tmp_path), "data.pairs")


def test_a_home_that_is_not_there_is_no_such_file() -> None:
    with pytest.raises(DataError, match=r"data\.pairs\.path: no such file: '~nobody-of-that-name/x\.jsonl'"):
        load_rows(SourceConfig(path="~nobody-of-that-name/x.jsonl"), "data.pairs")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", b"{}"),
        ("state.json", b"null"),
        ("state.json", b"["),
        ("state.json", b'{"_data_files": []}'),
        ("state.json", b'{"_data_files": [{"filename": "../x.arrow"}]}'),
        ("state.json", b'{"_data_files": 4}'),
        ("data-00000-of-00001.arrow", b""),
        ("data-00000-of-00001.arrow", b"no arrow"),
        ("data-00000-of-00001.arrow", None),
    ],
)
def test_a_damaged_saved_data_set(tmp_path: Path, name: str, content: bytes | None) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "s")
    (tmp_path / "s" / name).unlink() if content is None else (tmp_path / "s" / name).write_bytes(content)
    with pytest.raises(DataError, match=r"/s(/state.json)? (cannot be read|is damaged|is not valid JSON): ") as caught:
        load_rows(source(tmp_path / "s"), "data.pairs")
    assert "\n" not in str(caught.value)


# The fingerprint


def test_the_fingerprint_is_of_the_contents(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.csv"):
        assert fingerprint(source(write(tmp_path / name, "abc")), "data.pairs") == f"sha256:{ABC}"


def test_the_fingerprint_of_several_files_is_of_all_in_their_order(tmp_path: Path) -> None:
    a, b = str(shard(tmp_path / "s" / "a.jsonl", "1")), str(shard(tmp_path / "s" / "b.jsonl", "2"))
    both = fingerprint(source([a, b]), "k")
    assert both == fingerprint(source(tmp_path / "s"), "k") == fingerprint(source(f"{tmp_path}/s/*.jsonl"), "k")
    seen = {both, fingerprint(source([b, a]), "k"), fingerprint(source(a), "k")}
    shard(tmp_path / "s" / "b.jsonl", "3")
    seen.add(fingerprint(source([a, b]), "k"))
    # A border between two files that has moved is another content, too.
    write(Path(a), '{"prompt": "1"}\n{"prompt"')
    write(Path(b), ': "3"}\n')
    seen.add(fingerprint(source([a, b]), "k"))
    assert len(seen) == 5


# What is wrong


def test_a_file_that_is_not_compressed_as_its_name_says(tmp_path: Path) -> None:
    for name in ("d.jsonl.gz", "d.jsonl.bz2", "d.jsonl.xz", "d.jsonl.zst"):
        (tmp_path / name).write_text(lines(ROWS))
        with pytest.raises(DataError, match=rf"{name} cannot be read: \S"):
            load_rows(source(tmp_path / name), "data.pairs")


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst"])
def test_a_packed_file_that_is_cut_off_or_damaged(tmp_path: Path, packing: str) -> None:
    path = tmp_path / f"d.jsonl{packing}"
    content = os.urandom(20_000).hex().encode()
    whole = packed(b'{"prompt": "' + content + b'"}\n', packing)
    for end in (1, 5, 12, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"cannot be read: \S") as caught:
            load_rows(source(path), "data.pairs")
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    harmed = bytearray(whole)
    harmed[2] ^= 0xFF
    harmed[len(whole) // 2 : len(whole) // 2 + 50] = bytes(50)
    path.write_bytes(harmed)
    with pytest.raises(DataError, match=r"cannot be read: \S"):
        load_rows(source(path), "data.pairs")


def test_a_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shard(tmp_path / "d.jsonl", "q")

    def refuse(*args: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    for read in (load_rows, fingerprint):
        with pytest.raises(DataError, match=r"d.jsonl cannot be read: Permission denied$"):
            read(source(path), "data.pairs")


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "d.jsonl")
    with pytest.raises(DataError, match=r"d.jsonl is not a regular file"):
        load_rows(source(tmp_path / "d.jsonl"), "data.pairs")


@pytest.mark.parametrize(
    "path",
    [
        "nothere.jsonl",
        "./nothere",
        "a/b/c",
        "x.csv.gz",
        "/no/file.txt",
        "",
        "nul\0.jsonl",
        "x\ud800.csv",
        ["owner/name"],
        [""],
    ],
)
def test_a_path_that_is_not_there_is_no_hub_name(path: str | list[str]) -> None:
    for read in (load_rows, fingerprint):
        with pytest.raises(DataError, match=r"data.heldout.path: no such file"):
            read(source(path), "data.heldout")


@pytest.mark.parametrize("name", ["d.txt", "d.parquet.gz", "d", "d.jsonl.lz4"])
def test_an_unknown_extension(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name} has an unknown extension; known are .json"):
        load_rows(source(write(tmp_path / name, "abc")), "data.pairs")


def test_an_empty_list_of_files() -> None:
    with pytest.raises(DataError, match=r"data.pairs.path: the list of files is empty"):
        load_rows(source([]), "data.pairs")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"columns": {"chosen": "good"}}, DataError, "no column 'good'; it has prompt, chosen, rejected"),
        ({"columns": {"chozen": "chosen"}}, ConfigError, "unknown column 'chozen'; did you mean chosen"),
        ({"columns": {"chosen": "rejected", "prompt": "rejected"}}, ConfigError, "mapped to one name only"),
        ({"limit": 0}, ConfigError, "limit must be at least 1"),
        ({"split": "test"}, ConfigError, "data.pairs.split is for hub datasets"),
        ({"revision": "v1"}, ConfigError, "data.pairs.revision is for hub datasets"),
    ],
)
def test_options_that_cannot_be_honoured(tmp_path: Path, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        load_rows(source(write(tmp_path / "d.jsonl", lines(ROWS)), **options), "data.pairs")


# The hub


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    for read in (load_rows, fingerprint):
        with pytest.raises(
            DataError, match=r"data.pairs.path: there is no file 'owner/name' here, and the hub cannot "
        ):
            read(source("owner/name"), "data.pairs")


@pytest.mark.parametrize("variable", ["HF_DATASETS_CACHE", "HF_HUB_CACHE"])
def test_a_cache_that_cannot_be_written_is_not_blamed_on_the_data(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    module = datasets.config if variable == "HF_DATASETS_CACHE" else huggingface_hub.constants
    monkeypatch.setattr(module, variable, "/dev/null/x")
    with pytest.raises(DataError) as caught:
        load_rows(source("owner/name"), "data.pairs")
    assert str(caught.value) == (
        f"{variable} (/dev/null/x) cannot be written; set it to a writable folder (Not a directory)"
    )
