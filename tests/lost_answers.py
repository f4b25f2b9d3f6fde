"""A TCP relay to PostgreSQL that loses the answer to a commit: the server has it, the client never hears so."""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

_PIECE_BYTES = 1 << 16


class LostAnswers:
    """Counts down: the commit of so many transactions that contain `marker` is carried out and not answered."""

    def __init__(self, marker: str) -> None:
        self.marker = marker.encode()
        self.left = 0


@contextmanager
def losing_answers(database_url: str, marker: str) -> Iterator[tuple[str, LostAnswers]]:
    """A URL that leads through the relay, and what tells it how many answers to lose."""
    upstream = urlsplit(database_url)
    lost = LostAnswers(marker)

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            marked = False
            with _connected(upstream.hostname or "", upstream.port or 5432) as server:
                while True:
                    for source in select.select([self.request, server], [], [])[0]:
                        piece = source.recv(_PIECE_BYTES)
                        if not piece:
                            return
                        if source is server:
                            self.request.sendall(piece)
                            continue
                        marked = marked or lost.marker in piece
                        server.sendall(piece)
                        if b"COMMIT" in piece and marked and lost.left:
                            lost.left -= 1
                            server.recv(_PIECE_BYTES)  # it has happened, and nobody is told
                            return
                        marked = marked and b"COMMIT" not in piece

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Relay) as relay:
        serving = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        credentials, _, _ = upstream.netloc.rpartition("@")
        here = f"127.0.0.1:{relay.server_address[1]}"
        netloc = f"{credentials}@{here}" if credentials else here
        try:
            yield urlunsplit(upstream._replace(netloc=netloc)), lost
        finally:
            relay.shutdown()
            serving.join()


def _connected(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port))
