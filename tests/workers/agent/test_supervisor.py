"""A worker among others: its name, its clock, its GPUs."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from jobspecs.hosts import HOST_REMEDIES, HostReason
from jobspecs.lifecycle import JobState
from storage.settings import LeaseTimes
from storage.tables import HostRow
from tests.workers.harness import Harness
from workers.agent.supervisor import CLOCK_OFF_MAX_S, Supervisor
from workers.attempt.scratch import Scratch
from workers.daemon.host import HostConfig
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
    return Supervisor(config, bench, zygote, instance=uuid4(), clock=clock, poll_s=1.0)


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


def test_a_job_gets_gpus_by_the_names_that_the_worker_sees(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []

    class Begun:
        finished = False
        unkillable = False

        def __init__(self, job: Any, bench: Any) -> None:
            self.job = job
            begun.append(job)

        def start(self) -> None:
            pass

    monkeypatch.setattr("workers.agent.supervisor.Attempt", Begun)
    one = supervisor(harness, PlatformClock(), CUDA_VISIBLE_DEVICES="3,GPU-8932f937,5")
    one._announce()
    assert host(harness).gpus == 3
    for gpus in (1, 2):
        job_id = harness.submit("plain", gpus=gpus)
        with harness.database.unit_of_work() as work:
            work.jobs.assign(job_id, "one", lease_s=60)
        one._look()
        monkeypatch.setattr(Begun, "record", SimpleNamespace(lease=SimpleNamespace(observe=lambda state: None)), False)
    assert [job.gpus for job in begun] == [("3",), ("GPU-8932f937", "5")]


@pytest.mark.parametrize("reason", HostReason)
def test_every_reason_of_a_host_tells_what_to_do(reason: HostReason) -> None:
    assert HOST_REMEDIES[reason].endswith(".")
