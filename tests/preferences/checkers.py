"""Checks of users that the tests name as ``checkers:function``: good ones, and some that go wrong in every way."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any


def characters(prompt: str, response: str, row: dict[str, Any]) -> int:
    """Longer is better."""
    return len(response)


def counted(prompt: str, response: str, row: dict[str, Any]) -> bool:
    """Passes where the response says so, and notes each call in a file that the row names."""
    with Path(row["calls"]).open("a", encoding="utf-8") as file:
        file.write(f"{response}\n")
    if response == "stop":
        raise ValueError("told to stop")
    return response.startswith("good")


def in_every_way(prompt: str, response: str, row: dict[str, Any]) -> float | None:
    """What the response tells it to do."""
    match response:
        case "hang":
            time.sleep(600)
        case "hang and catch":
            while True:
                with contextlib.suppress(BaseException):
                    time.sleep(600)
        case "end":
            os._exit(3)
        case "segfault":
            os.kill(os.getpid(), 11)
        case "flood":
            sys.stdout.write("x" * 10_000_000)
            sys.stderr.write("x" * 10_000_000)
        case "memory":
            return float(len(bytearray(2**33)))
        case "none":
            return None
    return float(len(response))


def notes_its_process(prompt: str, response: str, row: dict[str, Any]) -> float:
    """Writes its process id to a file that the row names; the response ``hang`` hangs."""
    with Path(row["pids"]).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    if response == "hang":
        time.sleep(600)
    return 1.0


def not_a_number(prompt: str, response: str, row: dict[str, Any]) -> float:
    """Returns NaN."""
    return float("nan")


def reaches_the_network(prompt: str, response: str, row: dict[str, Any]) -> bool:
    """Whether a server of this machine, at the port that the row names, can be reached."""
    try:
        socket.create_connection(("127.0.0.1", int(row["port"])), timeout=1).close()
    except OSError:
        return False
    return True


def reward(prompts: list[str], responses: list[str]) -> list[float]:
    """A scorer of many responses."""
    return [float(len(response)) for response in responses]


def refuses(prompts: list[str], responses: list[str]) -> list[float]:
    """A scorer that fails."""
    raise ValueError("no model")


class Silent:
    """A judge without verdicts on texts with ``?``."""

    identity = "silent 1"

    def __init__(self, options: dict[str, Any], key: str, scorer: Any) -> None:
        pass

    def judge(self, comparisons: Any) -> Any:
        from seralign.evaluation.judges import Verdict

        for comparison in comparisons:
            if "?" in comparison.first + comparison.second:
                yield comparison, Verdict(None, error="timeout")
            else:
                yield comparison, Verdict(1.0)


class Longest:
    """A judge that prefers the longer response with probability 0.75."""

    identity = "longest 1"

    def __init__(self, options: dict[str, Any], key: str, scorer: Any) -> None:
        self._p = options.get("p", 0.75)

    def judge(self, comparisons: Any) -> Any:
        from seralign.evaluation.judges import Verdict

        for comparison in comparisons:
            longer = len(comparison.first) > len(comparison.second)
            yield comparison, Verdict(self._p if longer else 1 - self._p)
