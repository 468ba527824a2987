"""Optional libraries for labels. A missing one is one clear error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from seralign.errors import ConfigError

EXTRA = "labels"


@contextmanager
def needs(library: str, key: str) -> Iterator[None]:
    """Turn a failed import in the block into an error that names the key and what to install.

    Raises:
        ConfigError: The library is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise _missing(library, key) from error


def check_installed(module: str, library: str, key: str) -> None:
    """Refuse a setting whose library is not installed, before any work is done.

    Raises:
        ConfigError: There is no such module.
    """
    if find_spec(module) is None:
        raise _missing(library, key)


def _missing(library: str, key: str) -> ConfigError:
    return ConfigError(
        f"{key} needs the library {library}, which is not installed; pip install 'seralign[{EXTRA}]' installs it"
    )
