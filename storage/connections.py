"""Connections to PostgreSQL outside the pool, and how long a silent server is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from storage.database_errors import DatabaseUnavailable

#: How long a silent server is waited for, in seconds (milliseconds where libpq counts so): about half a minute, not
#: the operating system's two hours.
PATIENCE: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
#: The same patience on the server's side (seconds; the last in milliseconds), so that the locks of a host that lost its
#: power go. Its own default is the operating system's two hours.
SERVER_PATIENCE = (
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=15000"
)


@contextmanager
def connect(url: str) -> Iterator[psycopg.Connection]:
    plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
    try:
        with psycopg.connect(plain, autocommit=True, options=SERVER_PATIENCE, **PATIENCE) as connection:
            yield connection
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"PostgreSQL does not answer: {str(error).strip()}") from error


@dataclass(frozen=True)
class Listener:
    """Hears notifications on the outbox channel."""

    connection: psycopg.Connection

    def wait(self, timeout_s: float) -> bool:
        """Waits until something was committed to the outbox; False when nothing was within `timeout_s`."""
        return any(True for _ in self.connection.notifies(timeout=timeout_s, stop_after=1))
