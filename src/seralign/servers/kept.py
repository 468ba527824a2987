"""One server that is kept between uses: the next use with the same key finds it running, another key replaces it."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from seralign.servers.process import Running


@dataclass
class Keeper:
    """Keeps at most one server. It is stopped by ``release``, and at the end of the process."""

    _key: Hashable = None
    _server: Running | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        atexit.register(self.release)

    def get(self, key: Hashable, start: Callable[[], AbstractContextManager[Running]]) -> Running:
        """The server of this key, if it is kept and still runs; else a new one, after the other has stopped."""
        if self._server is not None and self._server.alive and self._key == key:
            return self._server
        self.release()
        self._server = self._stack.enter_context(start())
        self._key = key
        return self._server

    def release(self) -> None:
        """Stop the server that is kept."""
        self._server, self._key = None, None
        self._stack.close()
