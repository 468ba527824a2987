"""Bytes and lines of a file, compressed or not; errors name the file and the line."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from seralign.errors import DataError


def _open_plain(source: Path | BinaryIO) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else source


def _open_gzip(source: Path | BinaryIO) -> BinaryIO:
    return cast(BinaryIO, gzip.open(source))


def _open_bzip2(source: Path | BinaryIO) -> BinaryIO:
    return cast(BinaryIO, bz2.open(source))


def _open_xz(source: Path | BinaryIO) -> BinaryIO:
    return cast(BinaryIO, lzma.open(source))


def _open_zstd(source: Path | BinaryIO) -> BinaryIO:
    # Unlike the reader of the zstandard package, Arrow's reports truncated data.
    packed = pa.OSFile(str(source)) if isinstance(source, Path) else pa.PythonFile(source)
    return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(packed, "zstd")))  # pyright: ignore


OPENERS: dict[str, Callable[[Path | BinaryIO], BinaryIO]] = {
    "": _open_plain,
    ".gz": _open_gzip,
    ".bz2": _open_bzip2,
    ".xz": _open_xz,
    ".zst": _open_zstd,
}
"""How to open a file by its path, or one that is open, by the extension of its compression."""

_BOM = "\ufeff"
# The first bytes of unsupported files, what such a file is, and how to fix it.
_OTHERS = {
    b"\xff\xfe": "the file is UTF-16; save it as UTF-8",
    b"\xfe\xff": "the file is UTF-16; save it as UTF-8",
    b"\x1f\x8b": "the file is compressed with gzip; its name must end in .gz",
    b"BZh": "the file is compressed with bzip2; its name must end in .bz2",
    b"\xfd7zXZ": "the file is compressed with xz; its name must end in .xz",
    b"\x28\xb5\x2f\xfd": "the file is compressed with zstd; its name must end in .zst",
}


@contextmanager
def readable(file: str) -> Iterator[None]:
    """Turn errors while reading a file's bytes into one that names the file."""
    try:
        yield
    except EOFError:
        raise DataError(f"{file} cannot be read: it ends in the middle of its compressed data") from None
    except (zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{file} cannot be read: its compressed data are damaged ({error})") from None
    except UnicodeDecodeError:
        raise DataError(f"{file} cannot be read: it holds names that are not UTF-8 text") from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} cannot be read: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """An error's message in one line."""
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    lines = text.strip().splitlines()
    return lines[0] if lines else type(error).__name__


def text_lines(stream: BinaryIO, file: str) -> Iterator[tuple[int, str]]:
    """The lines of UTF-8 text with line ends, numbered from 1. Removes a byte order mark at the start."""
    for number, line in enumerate(stream, start=1):
        text = decode(line, f"{file} line {number}")
        yield number, text.removeprefix(_BOM) if number == 1 else text


def whole_text(stream: BinaryIO, file: str) -> str:
    """A whole file of UTF-8 text; like ``text_lines``."""
    content = stream.read()
    try:
        return content.decode("utf-8").removeprefix(_BOM)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{file} line {line} is not UTF-8 text") from None


def decode(line: bytes, where: str) -> str:
    """Decode bytes as text.

    Raises:
        DataError: They are not UTF-8.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        hint = next((f" ({hint})" for begin, hint in _OTHERS.items() if line.startswith(begin)), "")
        raise DataError(f"{where} is not UTF-8 text{hint}") from None
