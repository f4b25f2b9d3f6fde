"""An inference worker as a process of its own, on a real database and a real object store."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg import sql

from jobspecs.manifest import Manifest, read_manifest
from jobspecs.rights import Reach
from storage.database import Database
from storage.migrate import upgrade
from storage.objects import ObjectSettings, ObjectStore
from storage.tables import DeploymentRow
from tests.workers.inference.models import build_classifier
from tests.workers.inference.processes import children_of

WAIT_S = 60.0


def eventually(check: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """Asks until the answer is true; these are other processes, so there is no clock to inject."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answer := check():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s: {what}")


@dataclass
class Worker:
    """One `python -m workers.inference`."""

    process: subprocess.Popen[bytes]
    log_path: Path

    def engines(self) -> list[int]:
        """The processes that it has started and that still run."""
        return children_of(self.process.pid)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@dataclass
class Place:
    """The database, the object store and the workers of one test module."""

    database: Database
    store: ObjectStore
    environment: dict[str, str]
    scratch: Path
    owner_id: UUID
    #: Address of the server's own database, and the name of ours.
    server_url: str
    database_name: str
    workers: list[Worker] = field(default_factory=list)

    def start_worker(self, host: str, module: str = "workers.inference", **environment: str) -> Worker:
        log_path = self.scratch / f"{host}-{len(self.workers)}.log"
        with log_path.open("wb") as log_file:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                env={
                    **self.environment,
                    **{"EIGENWERK_HOST_NAME": host, "EIGENWERK_SCRATCH_DIR": str(self.scratch / host), **environment},
                },
                stderr=log_file,
            )
        self.workers.append(Worker(process, log_path))
        return self.workers[-1]

    def register(self, name: str, labels: tuple[str, ...], seed: int = 0) -> tuple[UUID, Manifest, str]:
        """A new version of a classifier; returns its id, its manifest and the prefix of its objects."""
        folder = self.scratch / "built" / secrets.token_hex(4)
        build_classifier(folder, labels, seed)
        return self.register_folder(name, folder)

    def register_folder(self, name: str, folder: Path) -> tuple[UUID, Manifest, str]:
        """The artifact in the folder as a new version of the model."""
        manifest, prefix = read_manifest(folder), f"artifacts/{secrets.token_hex(8)}/1"
        self.store.upload_tree(folder, [file.path for file in manifest.files], prefix)
        with self.database.unit_of_work() as work:
            version = work.models.add_version(self.owner_id, name, manifest=manifest, prefix=prefix)
        return version.id, manifest, prefix

    def deploy(
        self,
        name: str,
        version_id: UUID,
        *,
        replicas: int = 1,
        engine: str = "embedded",
        memory_bytes: int = 1 << 20,
        adapter_ids: Sequence[UUID] = (),
    ) -> None:
        with self.database.unit_of_work() as work:
            work.deployments.want(
                self.owner_id,
                name,
                model_version_id=version_id,
                engine=engine,
                replicas=replicas,
                memory_bytes=memory_bytes,
                adapter_ids=adapter_ids,
            )

    def undeploy(self, name: str) -> None:
        with self.database.unit_of_work() as work:
            assert work.deployments.unwant(Reach.of(self.owner_id), name)

    @contextmanager
    def database_away(self) -> Iterator[None]:
        """The database ends all connections and takes no new ones."""
        name = sql.Identifier(self.database_name)
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
            try:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (self.database_name,)
                )
                yield
            finally:
                connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))

    def row(self, name: str) -> DeploymentRow | None:
        with self.database.unit_of_work() as work:
            return work.deployments.find(Reach.of(self.owner_id), name)

    def in_state(self, name: str, state: str) -> DeploymentRow:
        """Waits until the deployment is in this state."""

        def look() -> DeploymentRow | None:
            row = self.row(name)
            return row if row is not None and row.state == state else None

        found: DeploymentRow = eventually(look, f"{name} {state}, it is {vars(self.row(name) or self)}")
        return found


def classify(row: DeploymentRow, texts: list[str], key: str | None = None) -> httpx.Response:
    return httpx.post(
        f"{row.endpoint}/classify",
        json={"inputs": texts},
        headers={"Authorization": f"Bearer {key or row.endpoint_key}"},
        timeout=30,
    )


@pytest.fixture(scope="module")
def place(services: Any, object_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A database and an object store with a user, without a worker."""
    name = f"inference_{secrets.token_hex(6)}"
    server_url = services.database_url.replace("+psycopg", "")
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = f"{services.database_url.rsplit('/', 1)[0]}/{name}"
    upgrade(url)
    database = Database(url)
    access = ObjectSettings(**object_settings)
    store = ObjectStore(access)
    store.ensure_bucket()
    with database.unit_of_work() as work:
        owner_id = work.users.ensure("alice").id
    environment = {
        **os.environ,
        "EIGENWERK_DATABASE_URL": url,
        "EIGENWERK_REDIS_URL": services.redis_url,
        "EIGENWERK_S3_ENDPOINT": access.endpoint_url,
        "EIGENWERK_S3_ACCESS_KEY": access.access_key,
        "EIGENWERK_S3_SECRET_KEY": access.secret_key,
        "EIGENWERK_S3_BUCKET": access.bucket,
        "EIGENWERK_MEMORY_BYTES": str(1 << 32),
    }
    place = Place(database, store, environment, tmp_path_factory.mktemp("inference"), owner_id, server_url, name)
    yield place
    for worker in place.workers:
        worker.process.kill()
        worker.process.wait()
    database.close()
    store.close()


@pytest.fixture(scope="module")
def worker(place: Place) -> Worker:
    """The worker that the tests of a module share."""
    return place.start_worker("first")
