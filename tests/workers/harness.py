"""Starts schedulers and workers as real processes on the embedded servers, submits jobs, and watches them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import text

from jobspecs.frozen import FrozenDataset, FrozenInputs, FrozenRegistryModel
from jobspecs.lifecycle import TERMINAL, JobState
from jobspecs.manifest import Manifest, describe_files
from jobspecs.registry import parse_spec
from jobspecs.rights import Reach
from storage.database import Database
from storage.objects import ObjectSettings, ObjectStore
from storage.tables import JobRow, JobTransitionRow, ModelVersionRow

SCRIPTED = "tests.workers.scripted_runner:RUNNERS"
#: A tenth of what is usual, in the same proportions.
SHORT_TIMES = {
    "EIGENWERK_LEASE_S": "6",
    "EIGENWERK_HEARTBEAT_S": "1",
    "EIGENWERK_SELF_FENCE_S": "4",
    "EIGENWERK_KILL_GRACE_S": "3",
    "EIGENWERK_POLL_S": "0.5",
}
DATASET = b"text,label\n" + b"".join(b"word number %d,%d\n" % (row, row % 2) for row in range(40))


@dataclass
class Harness:
    """One database, bucket and Redis, and the processes started on them."""

    environment: dict[str, str]
    database: Database
    store: ObjectStore
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    model: FrozenRegistryModel | None = None
    dataset: FrozenDataset | None = None

    def prepare_inputs(self, model_dir: Path | None = None, dataset: bytes = DATASET) -> None:
        """Stores the data set and the base model that submitted jobs use."""
        if model_dir is None:
            model_dir = self.folder / "model"
            model_dir.mkdir(exist_ok=True)
            (model_dir / "config.json").write_text("{}", encoding="ascii")
        unique = uuid4()
        files = describe_files(model_dir)
        for file in files:
            self.store.upload_file(model_dir / file.path, f"models/{unique}/{file.path}")
        self.model = FrozenRegistryModel(
            version_id=unique,
            owner="tester",
            name="base",
            version=1,
            digest=Manifest(artifact="model", files=files).digest,
            prefix=f"models/{unique}",
            files=files,
        )
        key = f"datasets/{unique}/data.csv"
        self.store.put_bytes(key, dataset)
        self.dataset = FrozenDataset(
            version_id=unique,
            owner="tester",
            name="rows",
            version=1,
            file_name="rows.csv",
            key=key,
            bytes=len(dataset),
            sha256=hashlib.sha256(dataset).hexdigest(),
        )

    def submit(
        self,
        name: str,
        *,
        training: dict[str, object] | None = None,
        resources: dict[str, object] | None = None,
        memory_bytes: int = 1 << 20,
        gpus: int = 0,
        checked: bool = True,
        judged: bool = False,
    ) -> UUID:
        """Queues a job as the API does; its data set counts as checked, as a small one is.

        `judged`: the data set is named a second and a third time, as the ones whose rows choose and judge.
        """
        if self.model is None or self.dataset is None:
            self.prepare_inputs()
        assert self.model and self.dataset
        document = {
            "kind": "train-classifier",
            "name": name,
            "model": "base@1",
            "dataset": "rows@1",
            "text": "text",
            "label": "label",
            "training": training or {},
            "resources": resources or {},
            "validation": {"dataset": "rows@1"} if judged else {},
        }
        parsed = parse_spec(document)
        spec = parsed.model_dump(mode="json")
        held_out, test = (
            self.dataset.model_copy(update={"header": header}) if judged else None
            for header in (("a", "b"), ("c", "d"))
        )
        inputs = FrozenInputs(dataset=self.dataset, held_out=held_out, test=test, model=self.model, checked=checked)
        with self.database.unit_of_work() as work:
            owner = work.users.ensure("tester")
            row, _ = work.jobs.submit(
                owner.id,
                actor=f"user:{owner.name}",
                spec=spec,
                inputs=inputs.model_dump(mode="json"),
                slots=1,
                memory_bytes=memory_bytes,
                gpus=gpus,
                max_runtime_s=parsed.resources.max_runtime.total_seconds(),
                request_sha256=hashlib.sha256(repr(spec).encode()).hexdigest(),
            )
        return row.id

    def start_scheduler(self, **environment: str) -> subprocess.Popen[bytes]:
        return self.start("workers.scheduler", **environment)

    def start_worker(
        self, name: str = "one", *, wrapper: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[bytes]:
        """A worker with a scratch folder of its own name; wait with `wait_for_host`. `wrapper` runs before it."""
        own = {
            "EIGENWERK_HOST_NAME": name,
            "EIGENWERK_SLOTS": "2",
            "EIGENWERK_MEMORY_BYTES": str(8 << 30),
            "EIGENWERK_GPUS": "0",
            "EIGENWERK_SCRATCH_DIR": str(self.folder / f"scratch-{name}"),
            "EIGENWERK_SCRATCH_FREE_MIN_BYTES": "1",
        }
        return self.start("workers.agent", wrapper=wrapper, **(own | environment))

    def wait_for_host(self, name: str = "one", *, accepting: bool = True, seconds: float = 60.0) -> None:
        def announced() -> bool:
            with self.database.unit_of_work() as work:
                return any(host.name == name and host.accepting == accepting for host in work.hosts.alive())

        self.until(announced, seconds, f"host {name} accepting={accepting}")

    def job(self, job_id: UUID) -> JobRow:
        with self.database.unit_of_work() as work:
            row = work.jobs.get(job_id)
        assert row is not None
        return row

    def wait(self, job_id: UUID, *states: JobState, seconds: float = 60.0) -> JobRow:
        """Until the job is in one of the states; the terminal ones when none are named."""
        wanted = states or tuple(TERMINAL)
        self.until(lambda: self.job(job_id).state in wanted, seconds, lambda: f"{wanted}; {self.history(job_id)}")
        return self.job(job_id)

    def cancel(self, job_id: UUID) -> None:
        with self.database.unit_of_work() as work:
            work.jobs.request_cancel(job_id, actor="user:tester")

    def transitions(self, job_id: UUID) -> Sequence[JobTransitionRow]:
        with self.database.unit_of_work() as work:
            return work.jobs.transitions_after(job_id)

    def history(self, job_id: UUID) -> list[str]:
        return [f"{row.state}({row.reason or ''}: {row.message or ''})" for row in self.transitions(job_id)]

    def attempts(self, job_id: UUID) -> int:
        return sum(row.state == JobState.assigned for row in self.transitions(job_id))

    def events(self, job_id: UUID, kind: str) -> list[dict[str, object]]:
        with self.database.unit_of_work() as work:
            recorded = work.events.after(job_id, limit=100_000, kinds=[kind])
        return [event.event.model_dump() for event in recorded]

    def wait_for_step(self, job_id: UUID, step: int, seconds: float = 60.0) -> None:
        """Until the stored progress of the newest attempt has passed the step."""

        def passed() -> bool:
            with self.database.unit_of_work() as work:
                newest = work.events.newest(job_id, "progress")
            event = None if newest is None else newest.event
            return event is not None and event.type == "progress" and event.stage == "train" and event.step >= step

        self.until(passed, seconds, lambda: f"step {step}; {self.history(job_id)}")

    def wait_for_checkpoint(self, job_id: UUID, seconds: float = 60.0) -> int:
        """Until a checkpoint is stored; returns its step.

        The run is held while its checkpoint is sent: on a busy machine a short run could end before that, and then
        leaves it out.
        """
        steps: list[int] = []

        def sent() -> bool:
            return any(self.folder.glob(f"scratch-*/attempts/{job_id}-*/outgoing/*"))

        def stored() -> bool:
            with self.database.unit_of_work() as work:
                steps.extend(row.step for row in work.checkpoints.newest_first(job_id))
            return bool(steps)

        def what() -> str:
            return f"a checkpoint; {self.history(job_id)}"

        self.until(lambda: sent() or stored(), seconds, what)
        held = _working_in(f"{job_id}-")
        _signal(held, signal.SIGSTOP)
        try:
            self.until(stored, seconds, what)
        finally:
            _signal(held, signal.SIGCONT)
        return steps[0]

    def result(self, job_id: UUID) -> ModelVersionRow | None:
        with self.database.unit_of_work() as work:
            return work.models.of_job(job_id)

    def weights_sha256(self, job_id: UUID) -> str:
        """Of the committed model's weights."""
        version = self.result(job_id)
        assert version is not None
        file = Manifest.model_validate(version.manifest).file("model.safetensors")
        assert file is not None
        return file.sha256

    def check_promise(self) -> None:
        """Every job has ended, legally, with at most one result, and every result's bytes are as its manifest says."""
        with self.database.unit_of_work() as work:
            owner = work.users.ensure("tester")
            jobs = work.jobs.list(Reach.of(owner.id), limit=1000)
        assert jobs, "no job, so nothing was checked"
        for job in jobs:
            assert job.state in TERMINAL, self.history(job.id)
            assert [row.seq for row in self.transitions(job.id)] == list(range(1, job.transition_seq + 1))
            version = self.result(job.id)
            assert (version is not None) == (job.state == JobState.succeeded)
            if version is not None:
                assert version.fence == job.fence
                with self.database.unit_of_work() as work:
                    files = work.blobs.files_of(version)
                for file in files:
                    target = self.folder / f"check-{uuid4().hex}"
                    self.store.download_stored(file, target)
                    target.unlink()
            assert job.host is None, "an ended job still holds a place"

    def until(
        self, condition: Callable[[], bool], seconds: float, what: str | Callable[[], str] = "the condition"
    ) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:.0f} s in vain for {what if isinstance(what, str) else what()}")
            time.sleep(0.05)

    def make_due(self, job_id: UUID) -> None:
        """Ends the job's back-off."""
        with self.database.unit_of_work() as work:
            work.session.execute(text("UPDATE jobs SET not_before = NULL WHERE id = :id"), {"id": job_id})

    def end_lease(self, job_id: UUID) -> None:
        """Lets the time pass for which the job's host holds it; for a worker that renews nothing any more."""
        with self.database.unit_of_work() as work:
            work.session.execute(text("UPDATE jobs SET lease_until = now() WHERE id = :id"), {"id": job_id})

    def worker(self) -> subprocess.Popen[bytes]:
        """The one worker that runs."""
        running = [process for process in self.processes if process.poll() is None]
        workers = [process for process in running if "workers.agent" in _arguments(process)]
        assert len(workers) == 1
        return workers[0]

    def zygote_pid(self) -> int:
        """The zygote of the one worker that runs."""
        zygotes = [pid for pid in _children(self.worker().pid) if b"workers.process.zygote" in _command_line(pid)]
        assert len(zygotes) == 1
        return zygotes[0]

    def child_pid(self, job_id: UUID) -> int:
        """The process of the job's running attempt: its working folder is the attempt's."""
        job = self.job(job_id)
        for pid in _children(self.zygote_pid()):
            if Path(f"/proc/{pid}/cwd").resolve().name == f"{job.id}-{job.fence}":
                return pid
        raise AssertionError(f"job {job_id} has no process; {self.history(job_id)}")

    def pause_child(self, job_id: UUID) -> None:
        os.kill(self.child_pid(job_id), signal.SIGSTOP)

    def kill_child(self, job_id: UUID) -> None:
        os.kill(self.child_pid(job_id), signal.SIGKILL)

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """SIGTERM, and wait."""
        process.send_signal(signal.SIGTERM)
        return process.wait(60)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.database.close()
        self.store.close()

    def start(self, module: str, *, wrapper: Sequence[str] = (), **environment: str) -> subprocess.Popen[bytes]:
        """A process of the platform on the servers of this harness."""
        process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", module], env={**os.environ, **self.environment, **environment}
        )
        self.processes.append(process)
        return process


def make_harness(
    database_url: str, redis_url: str, objects: dict[str, str], folder: Path, *, runners: str | None = None
) -> Harness:
    """A harness on the servers of the test session. Close it at the end."""
    environment = {
        "EIGENWERK_DATABASE_URL": database_url,
        "EIGENWERK_REDIS_URL": redis_url,
        "EIGENWERK_S3_ENDPOINT": objects["endpoint_url"],
        "EIGENWERK_S3_ACCESS_KEY": objects["access_key"],
        "EIGENWERK_S3_SECRET_KEY": objects["secret_key"],
        "EIGENWERK_S3_BUCKET": objects["bucket"],
        **SHORT_TIMES,
    }
    if runners is not None:
        environment["EIGENWERK_RUNNERS"] = runners
    store = ObjectStore(
        ObjectSettings(objects["endpoint_url"], objects["access_key"], objects["secret_key"], objects["bucket"])
    )
    return Harness(environment, Database(database_url), store, folder)


def signal_tree(pid: int | None, number: signal.Signals) -> list[int]:
    """Signals a process and then its children; returns whom it reached."""
    assert pid is not None
    os.kill(pid, number)
    return [pid, *(reached for child in _children(pid) for reached in signal_tree(child, number))]


def _working_in(folder: str) -> list[int]:
    """The processes whose working folder's name begins so."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if place.readlink().name.startswith(folder):
                found.append(int(place.parent.name))
    return found


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    """To those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _arguments(process: subprocess.Popen[bytes]) -> list[object]:
    return list(process.args) if isinstance(process.args, list) else [process.args]


def _children(pid: int) -> list[int]:
    children: list[int] = []
    # A child is listed under the thread that started it.
    for task in Path(f"/proc/{pid}/task").iterdir():
        children.extend(int(text) for text in (task / "children").read_text(encoding="ascii").split())
    return children


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""
