"""An attempt in this process, with a real zygote and real servers, and with defects that nobody foresaw."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from jobspecs.lifecycle import JobState, Reason
from storage.progress import ProgressPublisher
from storage.settings import LeaseTimes
from tests.workers.harness import SCRIPTED, Harness
from workers.attempt.attempt import Attempt
from workers.attempt.scratch import Scratch
from workers.attempt.services import AssignedJob, Workbench
from workers.files.input_cache import InputCache
from workers.process.zygote_client import ChildProcess, ZygoteClient


@pytest.fixture(scope="module")
def zygote() -> Iterator[ZygoteClient]:
    client = ZygoteClient(SCRIPTED)
    assert client.ready.wait(30)
    yield client
    client.close()


@pytest.fixture
def children() -> list[ChildProcess]:
    """Those that were started."""
    return []


@pytest.fixture
def bench(harness: Harness, zygote: ZygoteClient, children: list[ChildProcess]) -> Iterator[Workbench]:
    def spawn(task: Path) -> ChildProcess:
        children.append(zygote.spawn(task))
        return children[-1]

    scratch = Scratch(harness.folder / "scratch")
    publisher = ProgressPublisher(harness.environment["EIGENWERK_REDIS_URL"])
    yield Workbench(
        host="here",
        database=harness.database,
        store=harness.store,
        publisher=publisher,
        cache=InputCache(scratch.cache, harness.store, bytes_max=1 << 20),
        scratch=scratch,
        times=LeaseTimes(lease_s=60, heartbeat_s=10, self_fence_s=45),
        spawn=spawn,
    )
    publisher.close()


def attempt_at(harness: Harness, name: str, bench: Workbench) -> tuple[UUID, Attempt]:
    job_id = harness.submit(name)
    with harness.database.unit_of_work() as work:
        row = work.jobs.assign(job_id, "here", lease_s=60)
    assert row is not None
    job = AssignedJob(job_id, row.fence, row.owner_id, row.name, row.spec, row.inputs, ())
    return job_id, Attempt(job, bench)


def run(attempt: Attempt) -> None:
    attempt.start()
    attempt.join(60)
    assert attempt.finished


def test_a_defect_beside_a_running_child_kills_it_and_ends_the_job_with_its_message(
    harness: Harness, bench: Workbench, children: list[ChildProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, attempt = attempt_at(harness, "sleep", bench)
    move = attempt.record.move

    def move_but_not_to_running(source: JobState, target: JobState) -> None:
        if target is JobState.running:
            raise RuntimeError("can't start new thread")
        move(source, target)

    monkeypatch.setattr(attempt.record, "move", move_but_not_to_running)
    run(attempt)
    assert [child.is_gone() for child in children] == [True]
    job = harness.job(job_id)
    assert (job.state, job.reason) == (JobState.failed, Reason.internal_error)
    assert "can't start new thread" in str(job.message)


def test_a_disk_too_full_for_the_attempts_folders_ends_the_job_and_leaves_nothing(
    harness: Harness, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, attempt = attempt_at(harness, "plain", bench)
    mkdir = Path.mkdir

    def full(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if path.name == "output":
            raise OSError(errno.ENOSPC, "No space left on device")
        mkdir(path, mode, parents, exist_ok)

    monkeypatch.setattr(Path, "mkdir", full)
    run(attempt)
    monkeypatch.undo()
    job = harness.job(job_id)
    assert (job.state, job.reason) == (JobState.failed, Reason.disk_full)
    assert not list((harness.folder / "scratch" / "attempts").iterdir())


def test_events_that_cannot_be_written_do_not_keep_a_failed_job_from_its_end(
    harness: Harness, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, attempt = attempt_at(harness, "defect", bench)

    def flush(recorder: object) -> None:
        raise ValueError("no such event")

    monkeypatch.setattr("workers.attempt.event_recorder.EventRecorder.flush", flush)
    run(attempt)
    job = harness.job(job_id)
    assert (job.state, job.reason) == (JobState.failed, Reason.internal_error)
    assert "a defect" in str(job.message)
