"""Files of a repository on the hub, read over the network in ranges of bytes and not stored."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, cast

from huggingface_hub import HfFileSystem


def open_remote(path: str) -> BinaryIO:
    """Open a file of the hub for reading.

    Args:
        path: As in ``HfFileSystem``: ``datasets/owner/name@commit/file``.

    Raises:
        OSError: It cannot be read; also for any error of the network, now and while it is read.
    """
    return cast(BinaryIO, io.BufferedReader(_Remote(path)))


class _Remote(io.RawIOBase):
    """A file of the hub whose errors are those of files."""

    def __init__(self, path: str) -> None:
        self._file: Any = None
        self._file = _or_os_error(lambda: HfFileSystem().open(path, "rb"))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = _or_os_error(lambda: self._file.read(len(buffer)))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if self._file is not None:
            with suppress(Exception):
                self._file.close()
        super().close()


def _or_os_error(read: Callable[[], Any]) -> Any:
    """The result; errors of the HTTP library are no ``OSError`` by themselves."""
    try:
        return read()
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"the hub cannot be read: {error}") from error
