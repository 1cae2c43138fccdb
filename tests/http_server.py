"""A small HTTP server on this machine, with faults on demand."""

from __future__ import annotations

import hashlib
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Fault:
    """What goes wrong with one GET.

    status: answer this instead of the file, with `headers` and an empty body.
    cut: promise the whole answer, but hang up after so many bytes of it.
    wait: say nothing for so many seconds first.
    length: what to say that the answer's length is.
    no_length: do not say it.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    wait: float = 0.0
    length: int | None = None
    no_length: bool = False


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]


class FileServer(ThreadingHTTPServer):
    """Serves `files` from memory; use it as a context manager.

    Each GET takes the first of `faults`, if there is one. `requests` is the log.
    """

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, path: str, data: bytes, **headers: str) -> str:
        """Serve `data` at `path`; headers in the manner of ``Content_Type=``. Returns the URL."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        self.files[path] = (data, {"ETag": etag, "Content-Type": "application/fits"} | named)
        return self.url + path

    def add_hub_repository(self, repository: str, files: dict[str, bytes]) -> None:
        """Serve files as the Hugging Face hub does."""
        for name, data in files.items():
            self.add(f"/{repository}/resolve/main/{name}", data, X_Repo_Commit="0" * 40)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up: tests do that on purpose."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def __enter__(self) -> FileServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_HEAD(self) -> None:
        self._answer(Fault(), body=False)

    def do_GET(self) -> None:
        self._answer(self.server.faults.pop(0) if self.server.faults else Fault(), body=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on stderr."""

    def _answer(self, fault: Fault, body: bool) -> None:
        self.server.requests.append(Request(self.command, self.path, dict(self.headers)))
        threading.Event().wait(fault.wait)  # not time.sleep, which tests replace
        if fault.status is not None:
            self._head(fault.status, {**fault.headers, "Content-Length": "0"})
            return
        if self.path not in self.server.files:
            # The hub tells what is missing in a header of its own.
            known = any(path.split("/resolve/")[0] in self.path for path in self.server.files)
            code = "EntryNotFound" if known else "RepoNotFound"
            self._head(404, {"Content-Length": "0", "X-Error-Code": code})
            return
        data, headers = self.server.files[self.path]
        length = len(data) if fault.length is None else fault.length
        said = {} if fault.no_length else {"Content-Length": str(length)}
        self._head(200, {**headers, **fault.headers, **said})
        if body:
            self.wfile.write(data[: fault.cut])
        self.close_connection = True

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
