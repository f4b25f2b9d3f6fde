"""A worker among others: its name, its clock, its GPUs."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobspecs.hosts import HOST_REMEDIES, HostReason
from jobspecs.lifecycle import JobState, Reason
from jobspecs.manifest import Manifest, ManifestFile
from storage.database import UnitOfWork
from storage.settings import LeaseTimes
from storage.tables import HostRow
from tests.workers.harness import Harness
from workers.agent.supervisor import CLOCK_OFF_MAX_S, Supervisor
from workers.attempt.scratch import Scratch
from workers.daemon.host import HostConfig
from workers.daemon.machine import MachineWatch
from workers.daemon.platform_clock import PlatformClock

#: What is usual, so that a busy machine makes nobody look silent.
PATIENT = {"EIGENWERK_LEASE_S": "60", "EIGENWERK_SELF_FENCE_S": "45"}


def supervisor(harness: Harness, clock: PlatformClock, **environment: str) -> Supervisor:
    folder = harness.folder / "scratch"
    config = HostConfig.from_environment(
        {"EIGENWERK_HOST_NAME": "one", "EIGENWERK_SCRATCH_DIR": str(folder), **environment}
    )
    bench: Any = SimpleNamespace(
        database=harness.database, scratch=Scratch(folder), times=LeaseTimes(), actor="host:one", now=clock.now
    )
    zygote: Any = SimpleNamespace(ready=True)
    return Supervisor(config, bench, zygote, instance=uuid4(), clock=clock, machine=MachineWatch(), poll_s=1.0)


def host(harness: Harness) -> HostRow:
    with harness.database.unit_of_work() as work:
        (row,) = work.hosts.alive()
    return row


def test_a_second_worker_of_the_same_name_refuses_to_start_and_says_why(
    harness: Harness, capfd: pytest.CaptureFixture[str]
) -> None:
    harness.start_scheduler()
    first = harness.start_worker("one", **PATIENT)
    harness.wait_for_host()
    job_id = harness.submit("steps")
    harness.wait(job_id, JobState.running)
    second = harness.start_worker("one", EIGENWERK_SCRATCH_DIR=str(harness.folder / "elsewhere"), **PATIENT)
    assert second.wait(60) == 1
    assert "another worker works under the name 'one'" in capfd.readouterr().err
    assert harness.attempts(job_id) == 1
    # The first one is not bothered, and when it is killed one on the same folder goes on at once.
    first.kill()
    first.wait()
    harness.start_worker("one", **PATIENT)
    harness.until(lambda: harness.attempts(job_id) == 2, 50, "the restarted worker to take over")


@pytest.mark.parametrize("ahead_s", [CLOCK_OFF_MAX_S + 5, -CLOCK_OFF_MAX_S - 5])
def test_a_host_whose_clock_is_off_accepts_nothing_and_says_so(harness: Harness, ahead_s: float) -> None:
    shift = [ahead_s]
    one = supervisor(harness, PlatformClock(wall_s=lambda: time.time() + shift[0]))
    one._announce()
    row = host(harness)
    assert (row.accepting, row.reason) == (False, HostReason.clock_off)
    assert row.clock_offset_s == pytest.approx(ahead_s, abs=2)
    assert f"{ahead_s:+.0f}"[:3] in str(row.message)
    # Somebody sets it.
    shift[0] = 0.0
    one._announce()
    row = host(harness)
    assert (row.accepting, row.reason, row.message) == (True, None, None)


def test_a_host_without_room_says_so(harness: Harness) -> None:
    one = supervisor(harness, PlatformClock(), EIGENWERK_SCRATCH_FREE_MIN_BYTES=str(1 << 60))
    one._announce()
    assert (host(harness).accepting, host(harness).reason) == (False, HostReason.disk_full)
    assert 0 < (host(harness).scratch_free_bytes or 0) < 1 << 60


class Begun:
    """An attempt that only notes its job."""

    finished = False
    unkillable = False
    record = SimpleNamespace(lease=SimpleNamespace(observe=lambda state: None))

    def __init__(self, job: Any, bench: Any) -> None:
        self.job = job

    def start(self) -> None:
        pass


def begin(one: Supervisor, harness: Harness, gpus: int) -> UUID:
    """Gives the host a job that asks for so many GPUs."""
    job_id = harness.submit("plain", gpus=gpus)
    with harness.database.unit_of_work() as work:
        work.jobs.assign(job_id, "one", lease_s=60)
    one._look()
    return job_id


def gpus_of(one: Supervisor) -> list[tuple[str, ...]]:
    return [attempt.job.gpus for attempt in one._attempts.values()]


def test_a_job_gets_gpus_by_the_names_that_the_worker_sees(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.agent.supervisor.Attempt", Begun)
    one = supervisor(harness, PlatformClock(), CUDA_VISIBLE_DEVICES="3,GPU-8932f937,5")
    one._announce()
    assert host(harness).gpus == 3
    for gpus in (1, 2):
        begin(one, harness, gpus)
    assert gpus_of(one) == [("3",), ("GPU-8932f937", "5")]


def test_a_job_never_gets_a_gpu_that_a_deployment_works_on(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.agent.supervisor.Attempt", Begun)
    one = supervisor(harness, PlatformClock(), CUDA_VISIBLE_DEVICES="0,1,2")
    one._announce()
    with harness.database.unit_of_work() as work:
        serve(work, "one", gpu_ids=["0"])
    job_id = begin(one, harness, 1)
    waiting = begin(one, harness, 2)
    assert gpus_of(one) == [("1",)]
    with harness.database.unit_of_work() as work:
        held, empty = work.jobs.get(job_id), work.jobs.get(waiting)
        assert held and empty
        assert (held.gpu_ids, empty.gpu_ids) == (["1"], [])
        ended = work.jobs.end_attempt(job_id, reason=Reason.worker_stopped, message="", actor="host:one")
        assert ended
        assert ended.gpu_ids == []


def test_a_worker_that_died_before_it_began_gives_its_successor_the_same_gpus(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.agent.supervisor.Attempt", Begun)
    one = supervisor(harness, PlatformClock(), CUDA_VISIBLE_DEVICES="0,1")
    one._announce()
    begin(one, harness, 2)
    one._attempts.clear()
    one._look()
    assert gpus_of(one) == [("0", "1")]


def serve(work: UnitOfWork, host_name: str, *, gpu_ids: list[str]) -> None:
    """Plays an inference worker on the host."""
    owner = work.users.ensure("ada")
    manifest = Manifest(artifact="model", files=(ManifestFile(path="a", bytes=1, sha256="0" * 64),))
    version = work.models.add_version(owner.id, "model", manifest=manifest, prefix="models/x")
    row = work.deployments.want(
        owner.id, "model", model_version_id=version.id, engine="embedded", replicas=1, memory_bytes=1, gpus=len(gpu_ids)
    )
    assert work.deployments.claim(host_name, memory_bytes_free=1, gpus_free=len(gpu_ids), lease_s=60)
    work.deployments.hold_gpus(row.id, gpu_ids)


@pytest.mark.parametrize("reason", HostReason)
def test_every_reason_of_a_host_tells_what_to_do(reason: HostReason) -> None:
    assert HOST_REMEDIES[reason].endswith(".")
