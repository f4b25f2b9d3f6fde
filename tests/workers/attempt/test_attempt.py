"""An attempt in this process, with a real zygote and real servers, and with defects that nobody foresaw."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobspecs.frozen import FrozenHubModel, FrozenInputs
from jobspecs.lifecycle import JobState, Reason
from storage.progress import ProgressPublisher
from storage.secret_box import SecretBox
from storage.settings import LeaseTimes
from tests.workers.harness import SCRIPTED, Harness
from workers.attempt.attempt import Attempt
from workers.attempt.execution import Journey
from workers.attempt.scratch import Scratch
from workers.attempt.services import AssignedJob, Workbench
from workers.files.host_cache import HostCache
from workers.files.hub import HubAccess, HubUnavailable
from workers.process.zygote_client import ChildProcess, ZygoteClient, ZygoteUnavailable

#: The platform's time, which is not this machine's.
NOW = datetime(2031, 5, 1, 12, tzinfo=UTC)


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
        cache=HostCache(scratch.root / "cache", harness.store, bytes_max=1 << 20),
        scratch=scratch,
        times=LeaseTimes(lease_s=60, heartbeat_s=10, self_fence_s=45),
        spawn=spawn,
        now=lambda: NOW,
    )
    publisher.close()


def attempt_at(harness: Harness, name: str, bench: Workbench) -> tuple[UUID, Attempt]:
    job_id = harness.submit(name)
    with harness.database.unit_of_work() as work:
        row = work.jobs.assign(job_id, "here", lease_s=60)
    assert row is not None
    job = AssignedJob(job_id, row.fence, row.name, row.spec, row.inputs, (), row.owner_id)
    return job_id, Attempt(job, bench)


def run(attempt: Attempt) -> None:
    attempt.start()
    attempt.join(60)
    assert attempt.finished


def test_a_defect_of_the_worker_beside_a_running_child_kills_it_and_the_job_avoids_the_host(
    harness: Harness, bench: Workbench, children: list[ChildProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, attempt = attempt_at(harness, "sleep", bench)
    move = attempt.record.move

    def move_but_not_to_running(sources: Collection[JobState], target: JobState) -> None:
        if target is JobState.running:
            raise RuntimeError("can't start new thread")
        move(sources, target)

    monkeypatch.setattr(attempt.record, "move", move_but_not_to_running)
    run(attempt)
    assert [child.is_gone() for child in children] == [True]
    job = harness.job(job_id)
    assert (job.state, job.reason, job.avoided_hosts) == (JobState.queued, Reason.host_defect, ["here"])
    assert (job.crash_count, job.host_losses) == (0, 1)
    assert "can't start new thread" in str(job.message)


def test_a_disk_too_full_for_the_attempts_folders_sends_the_job_elsewhere_and_leaves_nothing(
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
    assert (job.state, job.reason, job.avoided_hosts) == (JobState.queued, Reason.disk_full, ["here"])
    assert not list((harness.folder / "scratch" / "attempts").iterdir())


def test_a_host_whose_zygote_never_comes_up_gives_the_job_back(
    harness: Harness, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spawn(task: Path) -> ChildProcess:
        raise ZygoteUnavailable("the zygote is not ready")

    monkeypatch.setattr("workers.attempt.execution._ZYGOTE_PATIENCE_S", 0.5)
    job_id, attempt = attempt_at(harness, "plain", replace(bench, spawn=spawn))
    run(attempt)
    job = harness.job(job_id)
    assert (job.state, job.reason, job.avoided_hosts) == (JobState.queued, Reason.host_defect, ["here"])


def test_a_child_that_goes_down_with_its_zygote_did_not_crash(harness: Harness, bench: Workbench) -> None:
    frail = ZygoteClient(SCRIPTED)
    assert frail.ready.wait(60)
    job_id, attempt = attempt_at(harness, "sleep", replace(bench, spawn=frail.spawn))
    attempt.start()
    harness.wait(job_id, JobState.running)
    frail.close()
    attempt.join(60)
    job = harness.job(job_id)
    assert (job.state, job.reason, job.crash_count) == (JobState.queued, Reason.host_defect, 0)


def test_a_job_that_finishes_while_it_is_being_preempted_is_delivered(
    harness: Harness, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, attempt = attempt_at(harness, "plain", bench)
    deliver = Journey._deliver

    def deliver_preempted(journey: Journey) -> None:
        with harness.database.unit_of_work() as work:
            assert work.jobs.transition(job_id, JobState.preempting, actor="scheduler", reason=Reason.preempted)
        attempt.record.lease.beat()
        deliver(journey)

    monkeypatch.setattr(Journey, "_deliver", deliver_preempted)
    run(attempt)
    assert harness.job(job_id).state == JobState.succeeded
    assert harness.result(job_id) is not None


def test_events_are_dated_by_the_platforms_clock(harness: Harness, bench: Workbench) -> None:
    job_id, attempt = attempt_at(harness, "plain", bench)
    run(attempt)
    with harness.database.unit_of_work() as work:
        assert {event.at for event in work.events.after(job_id)} == {NOW}


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


def test_a_hubs_model_is_fetched_with_the_token_of_the_jobs_owner(
    harness: Harness, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = SecretBox(secrets.token_urlsafe(32))
    bench = replace(bench, secret_box=box)
    job_id, attempt = attempt_at(harness, "plain", bench)
    owner, token = attempt.job.owner_id, "hf_of_the_owner"
    with harness.database.unit_of_work() as work:
        work.hub_tokens.put(owner, box.seal(owner, token), token[-4:])
    seen = []

    def place(cache: HostCache, inputs: FrozenInputs, folder: Path, **given: Any) -> None:
        seen.append(given["access"])
        raise HubUnavailable("The hub is asked no further.")

    monkeypatch.setattr(HostCache, "place_inputs", place)
    model = FrozenHubModel(repository="org/private", revision="a" * 40)
    inputs = {**attempt.job.inputs, "model": model.model_dump(mode="json")}
    run(Attempt(replace(attempt.job, inputs=inputs), bench))
    assert seen == [HubAccess(owner, token)]
    assert harness.job(job_id).reason == Reason.storage_unavailable
    attempts = harness.folder / "scratch"
    assert not any(token in path.read_text(errors="ignore") for path in attempts.rglob("*") if path.is_file())
