"""Random harm to the files of a run, and what commands make of it: a right result or one clear line, nothing else."""

from __future__ import annotations

import os
import random
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".json", ".jsonl", ".parquet", ".arrow", ".sqlite", ".sealed")


@dataclass(frozen=True)
class Harm:
    """What was done to which file, relative to the run."""

    file: str
    how: str


def harms(run: Path, seed: int, count: int) -> Iterator[tuple[Harm, bytes]]:
    """``count`` harmed contents, each of a random file: cut, emptied, replaced, a bit or a byte changed."""
    files = sorted(path for path in run.rglob("*") if path.suffix in SUFFIXES and path.stat().st_size)
    rng = random.Random(seed)
    for _ in range(count):
        path = rng.choice(files)
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
        yield Harm(str(path.relative_to(run)), f"{how} at {at}"), harmed


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
        (copy / harm.file).write_bytes(content)
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
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.read_text(errors="replace")
