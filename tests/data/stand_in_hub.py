"""A hub on this machine: the few paths of its interface that reading a dataset asks for."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Files = dict[str, bytes]


def commit_of(files: Files) -> str:
    """The commit of a repository that holds these files."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


@dataclass
class Hub:
    """Repositories by name; ``asked`` are the paths that were asked for, ``lost`` files that are listed and cannot be
    had. ``url`` goes into HF_ENDPOINT."""

    url: str = ""
    repositories: dict[str, Files] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Answer on a free port until the context is left."""

    class Handler(_Handler):
        of = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    of: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes = b"") -> None:
        path = urllib.parse.urlsplit(self.path).path
        if path in ("", "/"):  # whether there is a hub at all
            self._send(200, {}, b"")
            return
        self.of.asked.append(path)
        parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
        api = parts[0] == "api"
        owner, name, *rest = parts[2:] if api else parts[1:]
        repository = f"{owner}/{name}"
        files = self.of.repositories.get(repository)
        if files is None:
            self._send(404, {"X-Error-Code": "RepoNotFound"}, b"{}")
        elif repository in self.of.gated and not api:
            self._send(401, {"X-Error-Code": "GatedRepo"}, b"{}")
        elif len(rest) > 1 and rest[1] not in ("main", commit_of(files)):
            self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
        elif not api:
            self._file(files, "/".join(rest[2:]))
        elif not rest or rest[0] == "revision":
            found = {"id": repository, "sha": commit_of(files), "siblings": [{"rfilename": each} for each in files]}
            self._json(found | {"private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0})
        elif rest[0] == "tree":
            self._json([each for each in _entries(files) if _below(each["path"], "/".join(rest[2:]))])
        elif rest[0] == "paths-info":
            asked = urllib.parse.parse_qs(body.decode()).get("paths") if not body.startswith(b"{") else None
            paths = json.loads(body)["paths"] if asked is None else asked
            self._json([each for each in _entries(files) if each["path"] in paths])
        else:
            self._send(404, {}, b"{}")

    def _file(self, files: Files, name: str) -> None:
        commit = {"X-Repo-Commit": commit_of(files)}
        if name in files and name not in self.of.lost:
            commit |= {"ETag": f'"{hashlib.sha1(files[name]).hexdigest()}"'}
            begin, _, end = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
            part = files[name][int(begin) : int(end) + 1] if end else files[name]
            self._send(206 if end else 200, commit, part)
        else:
            self._send(404, commit | {"X-Error-Code": "EntryNotFound"}, b"")

    def _json(self, value: Any) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _send(self, code: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(code)
        for header, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entries(files: Files) -> list[dict[str, Any]]:
    """Files and folders, as the hub lists them."""
    folders = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}
    made: list[dict[str, Any]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": each} for each in folders]
    for path, content in files.items():
        made.append({"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": path})
    return made


def _below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")
