"""Random harm to the files of a run, and what commands make of it: a right result or one clear line, nothing else."""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Harm:
    """What was done to which file, relative to the run. ``silent``: its modification time stays what it was."""

    file: str
    how: str
    silent: bool = False


def kinds(run: Path) -> dict[str, list[Path]]:
    """The files of a run by kind, which is the name without its numbers."""
    found: dict[str, list[Path]] = {}
    for path in sorted(run.rglob("*")):
        if path.is_file() and path.stat().st_size:
            found.setdefault(re.sub(r"\d+", "N", path.name), []).append(path)
    return found


def harms(run: Path, seed: int, count: int) -> Iterator[tuple[Harm, bytes]]:
    """``count`` harmed contents, of each kind of file in turn: cut, emptied, replaced, a bit or a byte changed."""
    files, rng = kinds(run), random.Random(seed)
    order = rng.sample(sorted(files), len(files))
    for number in range(count):
        path = rng.choice(files[order[number % len(order)]])
        whole = path.read_bytes()
        at = rng.randrange(len(whole))
        how = rng.choice(("cut", "bit", "byte", "empty", "null", "[]", "{}"))
        match how:
            case "cut":
                harmed = whole[:at]
            case "bit":
                harmed = whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :]
            case "byte":
                harmed = whole[:at] + rng.randbytes(1) + whole[at + 1 :]
            case "empty":
                harmed = b""
            case _:
                harmed = how.encode()
        yield Harm(str(path.relative_to(run)), f"{how} at {at}", rng.random() < 0.5), harmed


def write_harmed(path: Path, content: bytes, *, silent: bool) -> None:
    """Replace the content of a file; ``silent`` keeps its modification time, as a failing disk does."""
    stat = path.stat()
    path.write_bytes(content)
    if silent:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def unclean_ends(
    run: Path, scratch: Path, seed: int, count: int, command: Callable[[Path], int], is_right: Callable[[Path], bool]
) -> list[tuple[Harm, str]]:
    """What ended otherwise than it should: a crash, a traceback, an exit code beside 0 and 2, more than one line of
    error, or exit code 0 with a wrong result.

    Args:
        run: A run's folder; it is copied for each attempt.
        scratch: A folder for the copies.
        seed: Decides the harms.
        count: How many.
        command: Runs a command on a copy, in a process of its own; returns its exit code.
        is_right: Whether a copy and what the command wrote are right after exit code 0.
    """
    found = []
    for harm, content in harms(run, seed, count):
        copy = scratch / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        write_harmed(copy / harm.file, content, silent=harm.silent)
        code, said = in_child(lambda copy=copy: command(copy), scratch / "said")
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        if code not in (0, 2):
            found.append((harm, f"exit code {code}: {said[-3000:]}"))
        elif code == 2 and (len(errors) != 1 or "Traceback" in said):
            found.append((harm, said[-3000:]))
        elif code == 0 and not is_right(copy):
            found.append((harm, "a wrong result"))
    return found


def in_child(work: Callable[[], int], said: Path) -> tuple[int, str]:
    """Exit code of ``work`` in a fork (negative where a signal ended it), and what it wrote to both outputs."""
    child = forked(work, said)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.read_text(errors="replace")


def forked(work: Callable[[], int], said: Path) -> int:
    """The id of a fork that does ``work``, ends with its exit code, and writes both outputs to a file."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with said.open("w", buffering=1) as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                sys.stdout = sys.stderr = output
                code = work()
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    return child
