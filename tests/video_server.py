"""A real HTTP server on 127.0.0.1 that follows a script: what each request gets, and where it breaks off."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What one request gets: `send` bytes of `data` (all by default), then the connection is closed.

    With `length` the header promises all of `data`; without, nobody knows how long it is. With `stall` the
    connection stays open and silent after `send` bytes until the server stops.
    """

    data: bytes = b""
    send: int | None = None
    length: bool = True
    stall: bool = False
    status: int = 200


@dataclass
class Server:
    """`url` answers the n-th request with the n-th answer, and every later one with the last."""

    url: str
    answers: list[Answer]
    asked: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve(*answers: Answer, name: str = "clip.ts") -> Iterator[Server]:
    """Run the server for the length of a `with` block."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                answer = state.answers[min(state.asked, len(state.answers) - 1)]
                state.asked += 1
            self.send_response(answer.status)
            self.send_header("Connection", "close")
            if answer.length:
                self.send_header("Content-Length", str(len(answer.data)))
            self.end_headers()
            try:
                self.wfile.write(answer.data[: answer.send])
            except ConnectionError:  # the reader has had enough
                return
            if answer.stall:
                state.stopping.wait(60)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{server.server_port}/{name}", list(answers))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        state.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
