"""Running out of memory: what it looks like, and work that is done again in halves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch

from seralign import distributed
from seralign.progress import say

Items = TypeVar("Items", bound=Sequence[Any] | np.ndarray)
Result = TypeVar("Result")
# What libraries say in errors of another class.
_SAY = ("can't allocate memory", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory was not enough, on a device or on the processor."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _SAY)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn an error for lack of memory into a ``MemoryError``, whatever library raises it."""
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or not is_out_of_memory(error):
            raise
        raise MemoryError(str(error)) from error


class Halving(Generic[Items]):
    """Does work over items at once, or in halves where memory is not enough.

    Once it was not enough, larger work is halved without another try. The first time, a warning says so.

    Args:
        what: What is halved, for the warning, such as ``scoring.tokens_per_pack``.
        size: What work over items takes, in any unit.
    """

    def __init__(self, what: str, size: Callable[[Items], int]) -> None:
        self._what, self._size = what, size
        self._limit: int | None = None

    def run(self, items: Items, work: Callable[[Items], Result]) -> list[Result]:
        """The results of the work, in the order of the items: one, or one of each part.

        Raises:
            Exception: Memory is not enough for a single item, or several processes work together: then all would have
                to halve the same work.
        """
        small = len(items) < 2 or distributed.world_size() > 1
        if small or self._limit is None or self._size(items) <= self._limit:
            try:
                return [work(items)]
            except Exception as error:
                if small or not is_out_of_memory(error):
                    raise
            if self._limit is None:
                say(f"warning: out of memory: {self._what} is halved; set a lower value if this happens again")
            self._limit = self._size(items) // 2
            if torch.cuda.is_available():  # a pass without gradient leaves no cycles, but pieces of odd sizes
                torch.cuda.empty_cache()
        half = len(items) // 2
        first, second = cast(Items, items[:half]), cast(Items, items[half:])
        return self.run(first, work) + self.run(second, work)
