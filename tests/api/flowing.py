"""An engine whose answers have no end: it tells how much of them was taken, and whether anybody is there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Flow:
    """`event_bytes` of text in each event, one every `pause_s`."""

    endpoint: str = ""
    event_bytes: int = 10
    pause_s: float = 0.02
    flowing: int = 0
    sent_bytes: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    stopping: threading.Event = field(default_factory=threading.Event)

    def await_flowing(self, count: int, timeout_s: float = 60.0) -> bool:
        """Whether so many answers flow, before the time is over."""
        with self.changed:
            return self.changed.wait_for(lambda: self.flowing == count, timeout_s)

    def note(self, flowing: int = 0, sent_bytes: int = 0) -> None:
        with self.changed:
            self.flowing += flowing
            self.sent_bytes += sent_bytes
            self.changed.notify_all()


@contextmanager
def flowing(event_bytes: int = 10, pause_s: float = 0.02) -> Iterator[Flow]:
    flow = Flow(event_bytes=event_bytes, pause_s=pause_s)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.close_connection = True
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            flow.note(1)
            event = _event(asked, "x" * flow.event_bytes)
            try:
                while not flow.stopping.wait(flow.pause_s):
                    self.wfile.write(event)
                    flow.note(sent_bytes=len(event))
            except OSError:
                pass
            finally:
                flow.note(-1)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 1024

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    flow.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield flow
    finally:
        flow.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _event(asked: Any, text: str) -> bytes:
    """As the route that was asked has it."""
    document: dict[str, Any] = {"choices": [{"index": 0, "delta": {"content": text}}]}
    if "inputs" in asked:
        document = {"token": {"id": 1, "text": text, "logprob": 0.0, "special": False}}
    return b"data: " + json.dumps(document).encode() + b"\n\n"
