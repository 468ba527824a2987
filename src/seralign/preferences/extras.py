"""Optional libraries for labels. A missing one is one clear error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
        raise ConfigError(
            f"{key} needs the library {library}, which is not installed ({error.name}); "
            f"pip install 'seralign[{EXTRA}]' installs it"
        ) from None
