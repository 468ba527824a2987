"""Rate limits: requests are spread evenly over the minute, so that no window of a minute has too many."""

from __future__ import annotations

import threading
import time

# Tokens of a request before any request was answered.
_FIRST_GUESS = 1000.0


class Pace:
    """When the next request may be sent. Used by several threads.

    Args:
        requests: Requests per minute; ``None`` for no limit.
        tokens: Tokens per minute; ``None`` for no limit. The tokens of a request are only known once it is answered.
            Until then it counts as many as the answered ones on average.
    """

    def __init__(self, requests: float | None, tokens: float | None) -> None:
        self._per_request = 0.0 if requests is None else 60.0 / requests
        self._per_token = 0.0 if tokens is None else 60.0 / tokens
        self._lock = threading.Lock()
        self._free = self._tokens_free = self._paused = float("-inf")
        self._answered, self._mean = 0, _FIRST_GUESS

    def wait(self, stop: threading.Event) -> float:
        """Wait until a request may be sent, or until ``stop`` is set. Returns the tokens that it is counted with."""
        while True:
            with self._lock:
                now = time.monotonic()
                at = max(self._free, self._tokens_free, self._paused)
                if at <= now or stop.is_set():
                    self._free = now + self._per_request
                    self._tokens_free = max(now, self._tokens_free) + self._mean * self._per_token
                    return self._mean
            stop.wait(at - now)

    def unused(self, counted: float) -> None:
        """Take back the tokens of a request that failed."""
        with self._lock:
            self._tokens_free -= counted * self._per_token

    def used(self, tokens: int, counted: float) -> None:
        """Correct the tokens of an answered request."""
        with self._lock:
            self._tokens_free += (tokens - counted) * self._per_token
            self._answered += 1
            self._mean = tokens if self._answered == 1 else self._mean + (tokens - self._mean) / self._answered

    def pause(self, seconds: float) -> None:
        """Send nothing for ``seconds``, because the server asked for it."""
        with self._lock:
            self._paused = max(self._paused, time.monotonic() + seconds)
