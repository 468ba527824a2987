"""The evaluation of signals on a group, and what the main process and the processes for checks say to each other."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from seralign.errors import ConfigError, DataError, SeralignError
from seralign.preferences.config import Titled
from seralign.preferences.groups import Group
from seralign.preferences.opinions import Opinion, Scored
from seralign.preferences.signals import Asked, Check, NoValue, Reader
from seralign.preferences.signals.texts import prompt_text, response_texts

CLOCK = struct.Struct("qii")
"""What a worker writes to the shared clock: a count of checks, and the signal and the response that it checks."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs."""

    signals: tuple[Titled, ...]
    memory_mb: int
    network: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has started. ``network``: whether its checks can use the network."""

    network: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """An error that ends the labelling."""

    error: SeralignError


@dataclass(frozen=True, slots=True)
class Work:
    """A group, and the reasons for which responses are not checked, by signal and response."""

    group: Group
    skipped: dict[tuple[int, int], str]


Answer = list[Opinion | None]
"""The opinion of each signal on a group; None of those that run in the main process."""


def answer(signals: tuple[Titled, ...], work: Work, clock: mmap.mmap) -> Answer | Failed:
    """The opinions of signals on a group, or the error."""
    try:
        return list(evaluate(signals, work, clock))
    except SeralignError as error:
        return Failed(error)
    except MemoryError:
        return Failed(ConfigError("limits.memory_mb: a row does not fit"))


def evaluate(signals: tuple[Titled, ...], work: Work, clock: mmap.mmap) -> Iterator[Opinion | None]:
    """The opinions of signals on a group.

    Raises:
        SeralignError: A row or a setting is wrong; names it.
    """
    texts: tuple[str, list[str]] | None = None
    for number, one in enumerate(signals):
        if isinstance(one.signal, Reader):
            yield one.signal.read(work.group)
        elif isinstance(one.signal, Check):
            texts = texts or (prompt_text(work.group), response_texts(work.group))
            yield _checked(one.signal, one.key, number, work, texts, clock)
        else:
            yield None


def _checked(check: Check, key: str, number: int, work: Work, texts: tuple[str, list[str]], clock: mmap.mmap) -> Scored:
    prompt, responses = texts
    scores: list[float | None] = []
    reasons: list[str] = []
    for index, response in enumerate(responses):
        count, *_ = CLOCK.unpack_from(clock)
        CLOCK.pack_into(clock, 0, count + 1, number, index)
        try:
            if (number, index) in work.skipped:
                raise NoValue(work.skipped[number, index])
            scores.append(check.check(Asked(prompt, response, work.group.row(index), work.group.where)))
        except NoValue as error:
            scores.append(None)
            reasons.append(str(error))
        except DataError:
            raise
        except ConfigError as error:
            raise ConfigError(f"{key}.{error}") from None
        finally:
            CLOCK.pack_into(clock, 0, count + 1, -1, -1)
    return Scored(tuple(scores), tuple(reasons))
