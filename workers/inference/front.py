"""What other machines see of a host's engines: TLS at the address that it announces, in front of each engine's port.

Engines stay on loopback, whatever they are: few can do TLS, and none has to be trusted with being reachable. Bytes are
passed on as they are, so an engine's own key is asked for as before. Who says nothing, or headers too slowly, is cut,
and who opens too many connections refused, because none of these needs a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Collection, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h11

from workers.inference.certificates import Authority

log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
#: Seconds between two leaves.
_RENEW_S = 24 * 3600.0
_PIECE_BYTES = 64 * 1024
#: Seconds from a connection, and from the first byte of each further request, to the request's last header. How long
#: answers take nobody bounds.
_HEADERS_S = 30.0
#: Connections at once to all engines of a host; an API has at most 512.
CONNECTIONS_MAX = 1000
#: Seconds until the next connection is taken when none could be, and between two warnings that there are too many.
_PAUSE_S = 1.0
_WARN_EVERY_S = 60.0


class Front:
    """Listens at `address`, a name or an IP of this machine. `certificate`, in PEM, is what the API has to trust."""

    def __init__(
        self, address: str, given: tuple[Path, Path] | None = None, *, connections_max: int = CONNECTIONS_MAX
    ) -> None:
        """`given`: files of a certificate for the address and its key.

        Raises OSError for bad ones, and for an address that is not this machine's.
        """
        self._address = address
        self._listen().close()
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority = Authority(address) if given is None else None
        if given is not None:
            self._context.load_cert_chain(*given)
            self.certificate = given[0].read_text()
        elif self._authority is not None:
            self.certificate = self._authority.certificate
        self._renewed_at_s = float("-inf")
        self._headers_s = _HEADERS_S
        self._connections_max = connections_max
        self._connections: set[asyncio.Task[None]] = set()
        self._warned_at_s = float("-inf")
        self._servers: dict[str, tuple[asyncio.Task[None], str]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="front", daemon=True)
        self._thread.start()

    def endpoint(self, engine: str) -> str:
        """Where others reach the engine at `http://127.0.0.1:PORT`; one that is elsewhere is reached there.

        Raises OSError when the address is not this machine's.
        """
        inner = urlsplit(engine)
        if inner.hostname != _LOOPBACK or inner.port is None:
            return engine
        self._renew()
        if engine not in self._servers:
            listening = self._listen()
            port = listening.getsockname()[1]
            server = asyncio.run_coroutine_threadsafe(self._open(listening, inner.port), self._loop).result()
            host = f"[{self._address}]" if ":" in self._address else self._address
            self._servers[engine] = server, f"https://{host}:{port}"
        return self._servers[engine][1]

    def keep(self, engines: Collection[str]) -> None:
        """Takes no new connections for the others. Those that are open end with their engine."""
        for engine in self._servers.keys() - set(engines):
            server, _ = self._servers.pop(engine)
            self._loop.call_soon_threadsafe(server.cancel)

    def close(self) -> None:
        self.keep(())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        while tasks := asyncio.all_tasks(self._loop):
            self._loop.run_until_complete(asyncio.wait(tasks))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _renew(self) -> None:
        if self._authority is not None and time.monotonic() - self._renewed_at_s > _RENEW_S:
            self._authority.load_leaf(self._context)
            self._renewed_at_s = time.monotonic()

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        listening = socket.create_server((self._address, 0), family=family)
        listening.setblocking(False)
        return listening

    async def _open(self, listening: socket.socket, port: int) -> asyncio.Task[None]:
        return asyncio.create_task(self._accept(listening, port))

    async def _accept(self, listening: socket.socket, port: int) -> None:
        """Takes connections for the engine until it is cancelled: before their handshake, so that they count."""
        with listening:
            while True:
                try:
                    connection, _ = await self._loop.sock_accept(listening)
                except OSError as error:
                    self._warn(f"no connection can be taken: {error}")
                    await asyncio.sleep(_PAUSE_S)
                    continue
                if len(self._connections) < self._connections_max:
                    serving = asyncio.create_task(self._serve(connection, port))
                    self._connections.add(serving)
                    serving.add_done_callback(self._connections.discard)
                else:
                    connection.close()
                    self._warn(f"there are {self._connections_max} connections to engines: more are refused")
                # What waits is taken without a pause, and the others must get on.
                await asyncio.sleep(0)

    async def _serve(self, connection: socket.socket, port: int) -> None:
        """Passes bytes on both ways, once the first request's headers are there, until either side has ended."""
        reader = asyncio.StreamReader(_PIECE_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(self._headers_s):
                transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._context)
                head = await reader.readuntil(b"\r\n\r\n")
            inner_reader, inner_writer = await asyncio.open_connection(_LOOPBACK, port, limit=_PIECE_BYTES)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # As if nobody listened: whoever asks sees it before a byte of an answer.
            if transport is not None:
                transport.abort()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        asking = _copy_requests(head, reader, inner_writer, self._headers_s)
        await _pass_on(asking, _copy(inner_reader, writer), (inner_writer, writer))

    def _warn(self, what: str) -> None:
        """Seldom: what others do must not fill the log."""
        if time.monotonic() - self._warned_at_s > _WARN_EVERY_S:
            self._warned_at_s = time.monotonic()
            log.warning("%s", what)


class _Requests:
    """Follows the requests of one connection."""

    def __init__(self) -> None:
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_PIECE_BYTES)

    def take(self, piece: bytes) -> bool:
        """Whether headers have begun that are not whole yet. Raises h11.RemoteProtocolError for what is no HTTP."""
        self._parser.receive_data(piece)
        while (event := self._parser.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.EndOfMessage):
                # The answer goes another way: the next request is one of a new connection to the parser.
                rest, _ = self._parser.trailing_data
                self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_PIECE_BYTES)
                if rest:
                    self._parser.receive_data(rest)
        return self._parser.their_state is h11.IDLE and bool(self._parser.trailing_data[0])


async def _pass_on(
    asking: Coroutine[Any, Any, None],
    answering: Coroutine[Any, Any, None],
    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
) -> None:
    """Until either is over. `ends`: the engine's, and the client's."""
    ways = [asyncio.create_task(asking), asyncio.create_task(answering)]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        for end in ends:
            end.close()
    # It counts until it is closed; TLS waits half a minute at most for the other side's farewell.
    with contextlib.suppress(OSError):
        await ends[1].wait_closed()


async def _copy_requests(
    head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers_s: float
) -> None:
    """As `_copy`, behind the headers of the first request; it ends with headers that take longer, and with no HTTP."""
    requests, piece, over_at_s = _Requests(), head, None
    with contextlib.suppress(OSError, h11.RemoteProtocolError):  # TimeoutError is an OSError
        while piece:
            if not requests.take(piece):
                over_at_s = None
            elif over_at_s is None:
                over_at_s = asyncio.get_running_loop().time() + headers_s
            writer.write(piece)
            await writer.drain()
            async with asyncio.timeout_at(over_at_s):
                piece = await reader.read(_PIECE_BYTES)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What is sent last arrives: `close` sends what is still buffered."""
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
