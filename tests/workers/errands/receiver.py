"""Somebody's server on loopback, which answers by path: well, slowly, elsewhere, endlessly, or not at all."""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """`port` on 127.0.0.1; with `tls`, by https."""

    tls: ssl.SSLContext | None = None
    requests: list[Received] = field(default_factory=list)
    #: Bytes of endless answers that somebody took.
    bytes_sent: int = 0

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def url(self, path: str = "/ok", host: str = "127.0.0.1") -> str:
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}{path}"

    def note(self, received: Received) -> None:
        with self._changed:
            self.requests.append(received)
            self._changed.notify_all()

    def wait(self, count: int, seconds: float = 30.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= count, seconds), self.requests

    def pause(self, seconds: float) -> bool:
        """True once the test is over."""
        return self._ended.wait(seconds)

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.note(Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            _ANSWERS.get(self.path, _status)(self, receiver)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return Handler


def _status(handler: BaseHTTPRequestHandler, receiver: Receiver) -> None:
    """/500 answers 500."""
    handler.send_response(int(handler.path[1:]))
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _ok(handler: BaseHTTPRequestHandler, receiver: Receiver) -> None:
    handler.send_response(204)
    handler.end_headers()


def _elsewhere(handler: BaseHTTPRequestHandler, receiver: Receiver) -> None:
    handler.send_response(302)
    handler.send_header("Location", receiver.url("/stolen"))
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _dripping(handler: BaseHTTPRequestHandler, receiver: Receiver) -> None:
    """A byte now and then, of headers that never end: each read succeeds."""
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not receiver.pause(0.05):
            handler.wfile.write(b"x")
    except OSError:
        pass


def _endless(handler: BaseHTTPRequestHandler, receiver: Receiver) -> None:
    """Says that it answers with 1 GiB, and means it."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(1 << 30))
    handler.end_headers()
    chunk = bytes(1 << 16)
    until_s = time.monotonic() + 20
    try:
        while time.monotonic() < until_s and receiver.bytes_sent < 1 << 30:
            handler.wfile.write(chunk)
            receiver.bytes_sent += len(chunk)
    except OSError:
        pass


_ANSWERS = {"/ok": _ok, "/elsewhere": _elsewhere, "/dripping": _dripping, "/endless": _endless}
