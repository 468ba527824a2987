"""The contracts of signals. A signal is a frozen dataclass; its fields are its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from seralign.errors import DataError
from seralign.preferences.groups import Group
from seralign.preferences.opinions import Opinion
from seralign.runs.results import Results


class NoValue(Exception):
    """Raised by a check that can say nothing of a response; the message is counted and shown."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A response to check: texts of the prompt and the response, and the columns of its row."""

    prompt: str
    response: str
    row: Mapping[str, Any]
    where: str

    def column(self, name: str) -> Any:
        """The value of a column.

        Raises:
            DataError: There is no such column.
        """
        if name not in self.row:
            raise DataError(f"{self.where}: there is no column {name!r}; the columns are {', '.join(self.row)}")
        return self.row[name]


@runtime_checkable
class Check(Protocol):
    """Scores a single response: 1 for passed, 0 for failed, or any finite number, where higher is better.

    Checks run in worker processes. ``seconds`` is the time that one response may take; the worker is ended a little
    later. ``temperature``: two scores s, t give p = sigmoid((s - t) / temperature); None gives p = 1 to the higher one.
    """

    @property
    def seconds(self) -> float: ...

    @property
    def temperature(self) -> float | None: ...

    def check(self, asked: Asked) -> float:
        """The score of a response.

        Raises:
            NoValue: The response has no score; it is counted, and makes no pair.
            SeralignError: An error that the user can fix; it ends the labelling.
        """
        ...


@runtime_checkable
class Reader(Protocol):
    """Reads what columns say of all responses to a prompt. ``temperature`` as in ``Check``."""

    @property
    def temperature(self) -> float | None: ...

    def read(self, group: Group) -> Opinion:
        """What the columns say.

        Raises:
            DataError: A value is missing or not allowed; names the row.
        """
        ...


@runtime_checkable
class Asker(Protocol):
    """Asks something that runs in the main process, about several prompts at a time."""

    @property
    def temperature(self) -> float | None: ...

    @property
    def identity(self) -> str:
        """Names everything that the answers depend on besides the settings, such as the source of a function."""
        ...

    def ask(self, groups: Sequence[Group], results: Results) -> list[Opinion]:
        """What is said of each group. Answers are stored in ``results``, and never asked for twice."""
        ...


Signal = Check | Reader | Asker
