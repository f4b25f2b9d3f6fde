"""The three servers together, those that are given left out, as a context manager."""

from __future__ import annotations

import logging
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from deploy.embedded.given import Given
from deploy.embedded.home import Home, open_home
from deploy.embedded.objects import ObjectAccess, objects_server, outside_socket_folder
from deploy.embedded.postgres import postgres_server
from deploy.embedded.postgres_placement import remove_data
from deploy.embedded.processes import Server
from deploy.embedded.redis import redis_server

logger = logging.getLogger(__name__)


class EmbeddedServices:
    """PostgreSQL, Redis and S3 on loopback, with generated passwords, under one data directory.

    Those in `given` are used where they are instead of being started; this object then has no such server. Within the
    context the servers are `postgres`, `redis` and `objects`; each can be stopped, killed, paused and
    started again on the same port with the same data. `durable=False` (tests) is faster and survives all but a power
    cut. Raises `EmbeddedError` on entry when a server is missing or does not start, or when the home is in use.
    """

    postgres: Server
    redis: Server
    objects: Server
    database_url: str
    redis_url: str
    object_access: ObjectAccess

    def __init__(self, home: Path | None = None, *, durable: bool = True, given: Given | None = None) -> None:
        self.home: Home = open_home(home)
        self._durable = durable
        self._given = given or Given()
        self._exits = ExitStack()

    def __enter__(self) -> EmbeddedServices:
        began = time.monotonic()
        with ExitStack() as exits:
            exits.enter_context(self.home.locked())
            # Stopped in the reverse order: objects, redis, postgres. initdb runs while the other two come up.
            if self._given.redis_url is None:
                self.redis, self.redis_url = redis_server(self.home, durable=self._durable)
                _launch(self.redis, exits)
            else:
                self.redis_url = self._given.redis_url
            if self._given.object_access is None:
                self.objects, self.object_access = objects_server(self.home)
                _launch(self.objects, exits)
            else:
                self.object_access = self._given.object_access
            if self._given.database_url is None:
                self.postgres, self.database_url = postgres_server(self.home, durable=self._durable)
                _launch(self.postgres, exits)
            else:
                self.database_url = self._given.database_url
            for server in self.servers():
                server.wait_until_ready()
                logger.info("%s is ready (%.1f s)", server.name, time.monotonic() - began)
            exits.callback(self.stop)
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def servers(self) -> list[Server]:
        """Those that run here, in the order in which they are stopped from behind."""
        given = self._given
        return [
            *([self.postgres] if given.database_url is None else []),
            *([self.redis] if given.redis_url is None else []),
            *([self.objects] if given.object_access is None else []),
        ]

    def stop(self) -> None:
        """Stops the servers in order: S3, Redis, PostgreSQL."""
        for server in reversed(self.servers()):
            server.stop()

    def environment(self) -> dict[str, str]:
        """The settings under which the platform's processes find the servers."""
        return {
            "EIGENWERK_DATABASE_URL": self.database_url,
            "EIGENWERK_REDIS_URL": self.redis_url,
            "EIGENWERK_S3_ENDPOINT": self.object_access.endpoint,
            "EIGENWERK_S3_ACCESS_KEY": self.object_access.access_key,
            "EIGENWERK_S3_SECRET_KEY": self.object_access.secret_key,
            "EIGENWERK_S3_BUCKET": self.object_access.bucket,
        }

    def remove_data(self) -> None:
        """Deletes the home and everything kept for it elsewhere. Only when stopped."""
        with self.home.locked():
            remove_data(self.home)
            for folder in (self.home.path, outside_socket_folder(self.home)):
                if folder.exists():
                    shutil.rmtree(folder)


def _launch(server: Server, exits: ExitStack) -> None:
    logger.info("starting %s", server.name)
    exits.callback(server.stop)
    server.launch()
