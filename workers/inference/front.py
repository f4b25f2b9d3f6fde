"""What other machines see of a host's engines: TLS at the address that it announces, in front of each engine's port.

Engines stay on loopback, whatever they are: few can do TLS, and none has to be trusted with being reachable. Bytes are
passed on as they are, so an engine's own key is asked for as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from workers.inference.certificates import Authority

log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
#: Seconds between two leaves.
_RENEW_S = 24 * 3600.0
_PIECE_BYTES = 64 * 1024


class Front:
    """Listens at `address`, a name or an IP of this machine. `certificate`, in PEM, is what the API has to trust."""

    def __init__(self, address: str, given: tuple[Path, Path] | None = None) -> None:
        """`given`: files of a certificate for the address and its key.

        Raises OSError for bad ones, and for an address that is not this machine's.
        """
        with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET):
            pass
        self._address = address
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority = Authority(address) if given is None else None
        if given is not None:
            self._context.load_cert_chain(*given)
            self.certificate = given[0].read_text()
        elif self._authority is not None:
            self.certificate = self._authority.certificate
        self._renewed_at_s = float("-inf")
        self._servers: dict[str, tuple[asyncio.Server, str]] = {}
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
            opening = self._open(inner.port)
            server = asyncio.run_coroutine_threadsafe(opening, self._loop).result()
            host = f"[{self._address}]" if ":" in self._address else self._address
            self._servers[engine] = server, f"https://{host}:{server.sockets[0].getsockname()[1]}"
        return self._servers[engine][1]

    def keep(self, engines: Collection[str]) -> None:
        """Takes no new connections for the others. Those that are open end with their engine."""
        for engine in self._servers.keys() - set(engines):
            server, _ = self._servers.pop(engine)
            self._loop.call_soon_threadsafe(server.close)

    def close(self) -> None:
        self.keep(())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _renew(self) -> None:
        if self._authority is not None and time.monotonic() - self._renewed_at_s > _RENEW_S:
            self._authority.load_leaf(self._context)
            self._renewed_at_s = time.monotonic()

    async def _open(self, port: int) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _pass_on(port, reader, writer)

        return await asyncio.start_server(serve, self._address, 0, ssl=self._context, limit=_PIECE_BYTES)


async def _pass_on(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Connects to the engine and passes bytes on both ways until either side has ended."""
    try:
        inner_reader, inner_writer = await asyncio.open_connection(_LOOPBACK, port, limit=_PIECE_BYTES)
    except OSError:
        # As if nobody listened: whoever asks sees it before a byte of an answer.
        writer.transport.abort()
        return
    ways = [
        asyncio.create_task(_copy(reader, inner_writer)),
        asyncio.create_task(_copy(inner_reader, writer)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        for end in (inner_writer, writer):
            end.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What is sent last arrives: `close` sends what is still buffered."""
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
