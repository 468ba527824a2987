"""An OpenAI-compatible server that answers by a script, on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Scripted:
    """An answer: its status, body (JSON, or raw text), headers, and seconds before it is sent."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0


@dataclass(frozen=True)
class Asked:
    """A request: its path, JSON body, headers (names in lower case), and when it came (seconds)."""

    path: str
    body: Any
    headers: Mapping[str, str]
    at: float


Script = Callable[[Asked, int], Scripted]


@dataclass
class FakeServer:
    """A server with the requests that it got, in order. ``script`` is called with the request and its number from 0."""

    script: Script
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    most_at_once: int = 0


def chat(text: str, prompt_tokens: int = 10, completion_tokens: int = 2, logprobs: Any = None) -> Scripted:
    """An answer of ``/chat/completions``. ``logprobs``: for each token, alternatives to their log-probabilities."""
    content = None
    if logprobs is not None:
        tops = [[{"token": name, "logprob": value, "bytes": None} for name, value in one.items()] for one in logprobs]
        content = {"content": [{**top[0], "top_logprobs": top} for top in tops]}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return Scripted(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{**choice, "logprobs": content}],
            "usage": {**usage, "total_tokens": prompt_tokens + completion_tokens},
        }
    )


@contextmanager
def fake_server(script: Script, port: int = 0, models: Sequence[str] | None = ("m",)) -> Iterator[FakeServer]:
    """Run a server while the block runs, on any free port or on a given one.

    ``models`` is what it lists under ``/models``; these requests are not among ``asked``. None: the script answers them
    like any other.
    """
    fake, lock, inside = FakeServer(script), threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", 0))
            self._answer(json.loads(self.rfile.read(length) or b"null"))

        def do_GET(self) -> None:
            if models is None or not self.path.endswith("/models"):
                return self._answer(None)
            return self._send(
                Scripted({"object": "list", "data": [{"id": name, "object": "model"} for name in models]})
            )

        def _answer(self, body: Any) -> None:
            with lock:
                asked = Asked(
                    self.path, body, {name.lower(): value for name, value in self.headers.items()}, time.monotonic()
                )
                number = len(fake.asked)
                fake.asked.append(asked)
                inside[0] += 1
                fake.most_at_once = max(fake.most_at_once, inside[0])
            given = fake.script(asked, number)
            time.sleep(given.delay)
            with lock:
                inside[0] -= 1
            self._send(given)

        def _send(self, given: Scripted) -> None:
            raw = isinstance(given.body, str)
            data = given.body.encode() if raw else json.dumps(given.body).encode()
            try:
                self.send_response(given.status)
                for name, value in {"content-type": "application/json", **given.headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True  # the client did not wait

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
