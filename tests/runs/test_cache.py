"""The log-probability cache: values that never change, keys that never collide, files that survive a kill."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seralign.errors import StoreError
from seralign.runs.cache import LogpCache, check_cache, made_keys, numbered_keys, response_key
from seralign.runs.results import Results

IDS = st.lists(st.integers(0, 300), max_size=6)


def keys_of(count: int) -> np.ndarray:
    return made_keys(response_key([1, 2], [number]) for number in range(count))


def test_what_was_put_is_found_again_to_the_last_bit(tmp_path: Path) -> None:
    """More keys than one query takes, in another order, in a file that was closed between."""
    keys, values = keys_of(1300), -np.random.default_rng(0).exponential(30.0, 1300)
    cache = LogpCache(tmp_path / "new" / "logps.sqlite")
    cache.put("policy", keys[:1200], values[:1200])
    cache.close()
    cache = LogpCache(tmp_path / "new" / "logps.sqlite")
    order = np.random.default_rng(1).permutation(1300)
    found = cache.get("policy", keys[order])
    assert np.array_equal(np.isnan(found), order >= 1200)
    assert np.array_equal(found[order < 1200], values[order[order < 1200]])
    assert (cache.hits, cache.misses) == (1200, 100)
    cache.close()


def test_the_first_value_stays(tmp_path: Path) -> None:
    cache = LogpCache(tmp_path / "logps.sqlite")
    keys = keys_of(3)
    cache.put("policy", keys[:2], [-1.0, -2.0])
    cache.put("policy", keys, [-9.0, -9.0, -3.0])
    assert cache.get("policy", keys).tolist() == [-1.0, -2.0, -3.0]
    cache.close()


def test_policies_share_nothing(tmp_path: Path) -> None:
    cache = LogpCache(tmp_path / "logps.sqlite")
    cache.put("digest:float32:float32", keys_of(1), [-1.0])
    cache.put("digest:float32:bfloat16", keys_of(1), [-2.0])
    assert cache.get("digest:float32:float32", keys_of(1)).tolist() == [-1.0]
    assert cache.get("digest:float32:bfloat16", keys_of(1)).tolist() == [-2.0]
    assert np.isnan(cache.get("digest:bfloat16:bfloat16", keys_of(1))).all()
    cache.close()


@given(IDS, IDS, IDS, IDS)
def test_keys_are_equal_only_for_equal_prompt_and_response(
    prompt: list[int], response: list[int], other_prompt: list[int], other_response: list[int]
) -> None:
    same = (prompt, response) == (other_prompt, other_response)
    assert (response_key(prompt, response) == response_key(other_prompt, other_response)) == same


@given(st.lists(st.integers(0, 300), min_size=1, max_size=8))
def test_where_the_prompt_ends_is_part_of_the_key(ids: list[int]) -> None:
    """[1, 2] + [3] is not [1] + [2, 3]; nor are token ids confused with their bytes."""
    keys = {response_key(ids[:border], ids[border:]) for border in range(len(ids) + 1)}
    assert len(keys) == len(ids) + 1


def test_a_key_is_the_same_in_every_process() -> None:
    """Hard-coded: caches outlive the version of the library that filled them."""
    assert response_key([1, 2], [3]) == response_key((1, 2), np.array([3], dtype=np.int32))  # pyright: ignore
    assert response_key([1, 2], [3]).hex() == "4c85ae5d0e2ecd0933f7d692f4bf61c8"


@pytest.mark.parametrize("contents", [b"prompt,response,logp\n" * 500, os.urandom(8192), b"{}"])
def test_another_file_in_its_place_is_named_and_kept(contents: bytes, tmp_path: Path) -> None:
    path = tmp_path / "logps.sqlite"
    path.write_bytes(contents)
    with pytest.raises(StoreError, match=rf"^{path}: not a log-probability cache .*give another path") as caught:
        LogpCache(path)
    assert "Delete" not in str(caught.value)
    assert path.read_bytes() == contents
    assert list(tmp_path.iterdir()) == [path]


def test_another_database_in_its_place_is_named_and_kept(tmp_path: Path) -> None:
    """Of which even the journal is not changed."""
    path = tmp_path / "notes.sqlite"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE notes (text TEXT)")
        other.execute("INSERT INTO notes VALUES ('mine')")
        other.commit()
    before = path.read_bytes()
    for store in (lambda: LogpCache(path), lambda: list(Results(path).get([b"key"]))):
        with pytest.raises(StoreError, match=rf"^{path}: not a .*give another path") as caught:
            store()
        assert "Delete" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_damaged_file_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "logps.sqlite"
    cache = LogpCache(path)
    keys = keys_of(5000)
    cache.put("policy", keys, np.zeros(5000))
    cache.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + bytes(len(whole) - 8192))
    cache = LogpCache(path)
    with pytest.raises(StoreError, match=rf"^{path}: .*Delete the file"):
        cache.get("policy", keys)
    cache.close()


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "logps.sqlite"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE logps (name TEXT)")
        other.commit()
    with pytest.raises(StoreError, match=rf"^{path}: not a log-probability cache .*give another path"):
        LogpCache(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "logps.sqlite"
    with pytest.raises(StoreError, match=f"^{path}: the log-probability cache cannot be used"):
        LogpCache(path)
    with pytest.raises(StoreError, match=f"^{tmp_path}: the log-probability cache cannot be used"):
        LogpCache(tmp_path)

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match="Permission denied"):
        LogpCache(tmp_path / "new" / "logps.sqlite")


@pytest.mark.skipif(not hasattr(os, "seteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_of_another_user_is_named() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        path = Path(folder) / "logps.sqlite"
        os.seteuid(65534)
        try:
            with pytest.raises(StoreError, match=f"^{path}: the log-probability cache cannot be used"):
                LogpCache(path)
        finally:
            os.seteuid(0)


def test_two_runs_share_one_file(tmp_path: Path) -> None:
    first, second = LogpCache(tmp_path / "logps.sqlite"), LogpCache(tmp_path / "logps.sqlite")
    keys = keys_of(4)
    first.put("policy", keys[:2], [-1.0, -2.0])
    second.put("policy", keys[1:3], [-9.0, -3.0])
    first.put("policy", keys[3:], [-4.0])
    for cache in (first, second):
        assert cache.get("policy", keys).tolist() == [-1.0, -2.0, -3.0, -4.0]
    first.close()
    second.close()


_WRITER = """
import sys
from seralign.runs.cache import LogpCache, check_cache, made_keys, response_key
from seralign.runs.results import Results
cache = LogpCache(sys.argv[1])
for batch in range(100000):
    keys = made_keys(response_key([batch], [row]) for row in range(50))
    cache.put("policy", keys, [-float(batch)] * 50)
    print(batch, flush=True)
"""


def _open(path: Path, together: Any) -> None:
    together.wait()
    LogpCache(path).close()


def test_processes_that_open_a_new_file_together_all_get_it(tmp_path: Path) -> None:
    """The change to a write-ahead log does not wait for a lock by itself."""
    fork = multiprocessing.get_context("fork")
    for attempt in range(20):
        together = fork.Barrier(2)
        opening = [fork.Process(target=_open, args=(tmp_path / f"{attempt}.sqlite", together)) for _ in range(2)]
        for process in opening:
            process.start()
        for process in opening:
            process.join()
        assert [process.exitcode for process in opening] == [0, 0]


def test_kill_in_the_middle_of_writing_loses_no_batch_that_was_put(tmp_path: Path) -> None:
    path = tmp_path / "logps.sqlite"
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) == 30:
                writer.send_signal(signal.SIGKILL)
                break
        last = max([30, *map(int, writer.stdout.read().split())])
    assert writer.returncode == -signal.SIGKILL
    cache = LogpCache(path)
    for batch in range(last + 3):
        found = cache.get("policy", made_keys(response_key([batch], [row]) for row in range(50)))
        whole = bool((found == -batch).all())
        assert whole or (batch > last and bool(np.isnan(found).all())), batch
    cache.put("policy", keys_of(1), [-1.0])
    cache.close()


# --- rows that were changed on the disk


# Another value in a seal, before the same checksum.
JOINED = "CAST(? || substr(seal, 9) AS BLOB)"


def filled(path: Path, count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    keys, values = keys_of(count), -np.random.default_rng(2).exponential(30.0, count)
    cache = LogpCache(path)
    cache.put("policy", keys, values)
    cache.close()
    return keys, values


def changed(path: Path, statement: str, *arguments: Any) -> None:
    with sqlite3.connect(path) as db:
        assert db.execute(statement, arguments).rowcount > 0
    db.close()


def test_a_changed_value_is_restored_to_the_last_bit_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten values in either of their two places."""
    path = tmp_path / "logps.sqlite"
    keys, values = filled(path)
    for number in range(5):
        changed(path, "UPDATE logps SET logp = logp + 1e-6 WHERE response = ?", keys[number].tobytes())
        other = np.float64(values[number + 5] + 1).tobytes()
        changed(path, f"UPDATE logps SET seal = {JOINED} WHERE response = ?", other, keys[number + 5].tobytes())
    assert check_cache(path) == (20, ["10 rows were changed since they were written"])
    cache = LogpCache(path)
    assert cache.get("policy", keys).tolist() == values.tolist()
    assert (cache.hits, cache.misses) == (20, 0)
    told = " ".join(capsys.readouterr().err.split())
    assert f"warning: {path}: 10 log-probabilities were changed on the disk" in told
    assert "10 were restored, and 0 are computed again" in told
    assert cache.get("policy", keys).tolist() == values.tolist()
    assert capsys.readouterr().err == ""
    cache.close()
    assert check_cache(path) == (20, [])


@pytest.mark.parametrize("harm", ["both", "checksum", "short", "type", "policy", "response"])
def test_a_row_that_nothing_bears_out_is_computed_again(harm: str, tmp_path: Path) -> None:
    path = tmp_path / "logps.sqlite"
    keys, values = filled(path, 3)
    key, one = keys[1].tobytes(), "WHERE response = ?"
    match harm:
        case "both":
            seal = np.float64(-1.0).tobytes()
            changed(path, f"UPDATE logps SET logp = -1.0, seal = {JOINED} {one}", seal, key)
        case "checksum":
            changed(path, f"UPDATE logps SET seal = CAST(substr(seal, 1, 15) || x'00' AS BLOB) {one}", key)
        case "short":
            changed(path, f"UPDATE logps SET seal = substr(seal, 1, 7) {one}", key)
        case "type":
            changed(path, f"UPDATE logps SET logp = 'text' {one}", key)
        case "policy":  # a row moved to another policy
            changed(path, f"UPDATE logps SET policy = 'other' {one}", key)
        case "response":  # to another response, of the same policy
            changed(path, "UPDATE logps SET response = ? WHERE response = ?", response_key([9], [9]), key)
    cache = LogpCache(path)
    found = cache.get("policy", keys)
    assert np.isnan(found).tolist() == [False, True, False]
    assert found[[0, 2]].tolist() == values[[0, 2]].tolist()
    assert np.isnan(cache.get("other", keys)).all()
    assert np.isnan(cache.get("policy", made_keys([response_key([9], [9])]))).all()
    cache.put("policy", keys, [-7.0, -8.0, -9.0])
    assert cache.get("policy", keys).tolist() == [values[0], -8.0, values[2]]
    cache.close()


def test_no_flipped_bit_of_the_file_gives_another_value(tmp_path: Path) -> None:
    path = tmp_path / "logps.sqlite"
    keys, values = filled(path, 200)
    whole = path.read_bytes()
    random = np.random.default_rng(3)
    refused = 0
    for at, bit in zip(random.integers(0, len(whole), 300).tolist(), random.integers(0, 8, 300).tolist(), strict=True):
        harmed = bytearray(whole)
        harmed[at] ^= 1 << bit
        path = tmp_path / f"{at}-{bit}.sqlite"
        path.write_bytes(harmed)
        try:
            cache = LogpCache(path)
        except StoreError:
            refused += 1
            continue
        try:
            found = cache.get("policy", keys)
        except StoreError:
            refused += 1
            continue
        finally:
            cache.close()
        assert ((found == values) | np.isnan(found)).all()
    assert refused < 150


def test_checking_tells_of_a_file_that_is_no_cache_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "logps [1].sqlite"
    filled(path, 5)
    assert check_cache(path) == (5, [])
    path.write_bytes(b"x" * 5000)
    (rows, problems) = check_cache(path)
    assert rows == 0
    assert problems == ["cannot be read: file is not a database"]
    assert path.read_bytes() == b"x" * 5000


def test_a_full_disk_is_told_as_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = LogpCache(tmp_path / "logps.sqlite")
    cache._db.execute("PRAGMA max_page_count=1")
    with pytest.raises(StoreError, match=f"^{tmp_path}: the disk is full. Finished work is kept"):
        cache.put("policy" * 100, keys_of(1000), [-1.0] * 1000)
    cache.close()


@given(st.lists(st.integers(0, 9), max_size=40))
def test_keys_are_numbered_by_first_use(given_: list[int]) -> None:
    different = list(dict.fromkeys(given_))
    # Keys that differ in the first or in the last byte alone.
    numbers, first = numbered_keys(made_keys((bytes([at % 3]) + bytes(14) + bytes([at // 3])) for at in given_))
    assert numbers.tolist() == [different.index(at) for at in given_]
    assert first.tolist() == [given_.index(at) for at in different]
