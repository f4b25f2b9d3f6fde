"""What a host gives its deployments beside its jobs: the real database, no processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import cast
from uuid import UUID, uuid4

import pytest

from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.rights import Reach
from storage.database import Database
from storage.settings import LeaseTimes
from storage.tables import DeploymentRow
from tests.workers.inference.engines import FakeEngine
from tests.workers.inference.test_serving import AtOnce, FakeCache
from workers.daemon.wakeup import Wakeup
from workers.inference.means import Means
from workers.inference.model_folders import ModelFolders
from workers.inference.reconciler import Reconciler

GIB = 2**30
GPU_IDS = ("0", "1", "GPU-5")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def look(database: Database, engine: FakeEngine) -> Iterator[Callable[[], None]]:
    """One look of the inference worker of a host with 8 GiB and three GPUs."""
    wakeup = Wakeup()
    means = Means({"fake": engine}, cast(ModelFolders, FakeCache()), AtOnce(), wakeup)
    reconciler = Reconciler(database, "laptop", 8 * GIB, LeaseTimes(), means, GPU_IDS)
    now_s = [0.0]

    def one() -> None:
        for _ in range(3):
            now_s[0] += 1
            reconciler.tick(now_s[0])

    yield one
    for service in reconciler.services.values():
        service.end(now_s[0])
        service.tick(now_s[0])
    wakeup.close()


def start_job(database: Database, *, memory_gib: int = 1, gpu_ids: list[str] | None = None, gpus: int = 0) -> UUID:
    """A job on the host; one without `gpu_ids` has not begun yet."""
    with database.unit_of_work() as work:
        owner = work.users.ensure("ada")
        row, _ = work.jobs.submit(
            owner.id,
            actor="user:ada",
            spec={"kind": "train-classifier", "name": "model", "priority": 0},
            inputs={},
            slots=1,
            memory_bytes=memory_gib * GIB,
            gpus=len(gpu_ids) if gpu_ids else gpus,
            max_runtime_s=3600,
            request_sha256="0",
            idempotency_key=str(uuid4()),
        )
        given = work.jobs.assign(row.id, "laptop", lease_s=60)
        assert given is not None
        work.jobs.hold_gpus(row.id, given.fence, gpu_ids or [])
    return row.id


def deploy(database: Database, name: str, *, memory_gib: int = 1, gpus: int = 0) -> None:
    manifest = Manifest(artifact="model", files=(ManifestFile(path="a", bytes=1, sha256="0" * 64),))
    with database.unit_of_work() as work:
        owner = work.users.ensure("ada")
        version = work.models.add_version(owner.id, name, manifest=manifest, prefix=f"models/{name}")
        work.deployments.want(
            owner.id,
            name,
            model_version_id=version.id,
            engine="fake",
            replicas=1,
            memory_bytes=memory_gib * GIB,
            gpus=gpus,
        )


def row_of(database: Database, name: str) -> DeploymentRow:
    with database.unit_of_work() as work:
        row = work.deployments.find(Reach.of(work.users.ensure("ada").id), name)
    assert row is not None
    return row


def test_a_deployment_waits_for_the_memory_that_jobs_take(database: Database, look: Callable[[], None]) -> None:
    job_id = start_job(database, memory_gib=5)
    deploy(database, "model", memory_gib=4)
    look()
    assert row_of(database, "model").host is None
    with database.unit_of_work() as work:
        work.jobs.request_cancel(job_id, actor="user:ada")
        work.jobs.end_attempt(job_id, reason=Reason.worker_stopped, message="", actor="host:laptop")
    look()
    assert row_of(database, "model").host == "laptop"


def test_deployments_together_take_no_more_than_the_host_has(database: Database, look: Callable[[], None]) -> None:
    for name in ("first", "second"):
        deploy(database, name, memory_gib=5)
    look()
    assert (row_of(database, "first").host, row_of(database, "second").host) == ("laptop", None)


def test_a_deployment_gets_gpus_that_no_job_works_on_and_its_engine_sees_only_them(
    database: Database, look: Callable[[], None], engine: FakeEngine
) -> None:
    start_job(database, gpu_ids=["GPU-5"])
    deploy(database, "model", gpus=1)
    look()
    assert row_of(database, "model").gpu_ids == ["1"]
    assert [order.gpu_ids for order in engine.orders] == [("1",)]


def test_gpus_are_left_for_jobs_that_have_not_begun(database: Database, look: Callable[[], None]) -> None:
    start_job(database, gpus=2)
    for name in ("first", "second"):
        deploy(database, name, gpus=1)
    look()
    assert row_of(database, "first").gpu_ids == ["GPU-5"]
    assert row_of(database, "second").host is None


def test_a_deployment_without_gpus_sees_none(database: Database, look: Callable[[], None], engine: FakeEngine) -> None:
    deploy(database, "model")
    look()
    assert [order.gpu_ids for order in engine.orders] == [()]
