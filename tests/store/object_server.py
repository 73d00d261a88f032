"""A server of the files in a folder, with a delay, limited speed, and the faults of object stores."""

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

import numpy as np

import store_spec

PIECE = 2**18


class ObjectServer(ThreadingHTTPServer):
    """Serves GET, with ranges, and HEAD; a folder cannot be listed: as a bucket, it refuses with 403.

    Args:
        folder: Its files.

    Attributes:
        delay: Seconds before each answer.
        speed: Bytes per second of a connection.
        faults: Faults by the number of a request, from 0: a status, `"cut"` for a body that ends after half of its
            length, or `"short"` for half of the range.
        obeys_conditions: Whether it compares the e-tag that a client expects.
        requests: How often each method was used for each path.
        body_bytes: How many bytes were sent.
        most_at_once: The largest number of requests that waited for their answer at the same time.
        together: Requests wait, at most 10 s, until there have been so many at the same time.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # a connection that does not fit in is tried again after a second

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.delay, self.speed, self.obeys_conditions = 0.0, float("inf"), True
        self.faults: Any = {}
        self.requests: Counter[tuple[str, str]] = Counter()
        self.body_bytes = self.most_at_once = self.at_once = self.count = 0
        self.together = 1
        self.lock = threading.Condition()

    @property
    def url(self) -> str:
        """The URL of the folder."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a client may close its connection."""


@contextmanager
def serving(folder: Path) -> Iterator[ObjectServer]:
    """Serve a folder in a thread."""
    with ObjectServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ObjectServer
    disable_nagle_algorithm = True
    e_tag = ""

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        server = self.server
        with server.lock:
            number, server.count = server.count, server.count + 1
            server.requests[self.command, self.path] += 1
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            server.lock.notify_all()
            server.lock.wait_for(lambda: server.most_at_once >= server.together, 10)
        time.sleep(server.delay)
        # A client that has its answer may send another request before this thread continues: count no longer than the
        # delay.
        with server.lock:
            server.at_once -= 1
        self._answer_with("403" if "list-type=" in self.path else server.faults.get(number))

    def _answer_with(self, fault: str | None) -> None:
        server = self.server
        if fault in ("403", "404", "503"):
            self._status(int(fault), 0)
            return
        try:
            file = (server.folder / unquote(self.path).lstrip("/")).open("rb")
        except OSError:
            self._status(404, 0)
            return
        with file:
            self._send(file, os.fstat(file.fileno()).st_size, fault)

    def _send(self, file: BinaryIO, size: int, fault: str | None) -> None:
        server, start, stop = self.server, 0, size
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked:
            first, last = asked.groups()
            start = int(first) if first else max(0, size - int(last))
            stop = min(size, int(last) + 1) if first and last else size
            if start >= size:
                self._status(416, 0)
                return
        e_tag = f'"{os.fstat(file.fileno()).st_ino}"'
        if server.obeys_conditions and self.headers.get("If-Match", e_tag) != e_tag:
            self._status(412, 0)
            return
        self.e_tag = e_tag
        content_range = f"bytes {start}-{stop - 1}/{size}" if asked else None
        if fault == "short":
            stop = start + (stop - start) // 2
        self._status(206 if asked else 200, stop - start, content_range)
        if self.command == "HEAD":
            return
        if fault == "cut":
            stop, self.close_connection = start + (stop - start) // 2, True
        began, at = time.perf_counter(), start
        while at < stop:
            at += os.sendfile(self.connection.fileno(), file.fileno(), at, min(PIECE, stop - at))
            time.sleep(max(0.0, (at - start) / server.speed - (time.perf_counter() - began)))
        with server.lock:
            server.body_bytes += stop - start

    def _status(self, status: int, length: int, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 00:00:00 GMT")
        if self.e_tag:
            self.send_header("ETag", self.e_tag)
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()


def walks(path: Path, *, sequences: int = 60, seed: int = 0, **options: Any) -> Path:
    """Write a store of some megabytes."""
    random = np.random.default_rng(seed)
    with store_spec.create_store(path, inputs=("float32", (8,)), labels=("float32", (1,)), **options) as writer:
        for number in range(sequences):
            inputs = random.normal(size=(int(random.integers(500, 3000)), 8)).astype(np.float32).round(1)
            writer.append(inputs, inputs[:, :1], source=f"walk-{number}")
    return path
