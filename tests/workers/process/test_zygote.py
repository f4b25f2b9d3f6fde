from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from jobspecs.events import ChildEvent, FailureEvent, LogEvent
from jobspecs.lifecycle import Reason
from workers.attempt.child_output import OutputReader
from workers.process.child_task import EXIT_FAILED, EXIT_STOPPED, ChildTask
from workers.process.zygote_client import ChildProcess, ZygoteClient, ZygoteUnavailable

RUNNERS = "tests.workers.scripted_runner:RUNNERS"


@pytest.fixture(scope="module")
def zygote() -> Iterator[ZygoteClient]:
    client = ZygoteClient(RUNNERS)
    assert client.ready.wait(30)
    yield client
    client.close()


Start = Callable[[str], tuple[ChildProcess, list[ChildEvent], OutputReader]]


@pytest.fixture
def start(zygote: ZygoteClient, tmp_path: Path) -> Start:
    def begin(name: str) -> tuple[ChildProcess, list[ChildEvent], OutputReader]:
        return spawn(zygote, tmp_path / uuid4().hex, name)

    return begin


def spawn(zygote: ZygoteClient, root: Path, name: str) -> tuple[ChildProcess, list[ChildEvent], OutputReader]:
    folders = [root / part for part in ("inputs", "output", "checkpoints")]
    for folder in folders:
        folder.mkdir(parents=True)
    (root / "inputs" / "rows.csv").write_text("text,label\na,b\n", encoding="utf-8")
    spec = {"kind": "train-classifier", "name": name, "model": "m", "dataset": "d", "text": "text", "label": "label"}
    task = ChildTask(
        spec=spec,
        work_dir=root,
        dataset_path=root / "inputs" / "rows.csv",
        model_dir=root / "inputs",
        output_dir=root / "output",
        checkpoints_dir=root / "checkpoints",
        resume_from=None,
        gpus=(),
        checked=True,  # the scripted runners are what is tested, not the one row
    )
    (root / "task.json").write_text(task.model_dump_json(), encoding="utf-8")
    child = zygote.spawn(root / "task.json")
    events: list[ChildEvent] = []
    return child, events, OutputReader(child, events.append)


def end_of(child: ChildProcess, reader: OutputReader) -> int:
    assert child.exited.wait(30)
    reader.finish(10)
    assert child.status is not None
    return os.waitstatus_to_exitcode(child.status)


def logs(events: list[ChildEvent]) -> list[str]:
    return [event.message for event in events if isinstance(event, LogEvent)]


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_child_does_its_work_and_its_group_is_gone(start: Start) -> None:
    child, _, reader = start("plain")
    assert end_of(child, reader) == 0
    assert child.is_gone()


def test_a_fork_is_fast(start: Start) -> None:
    began = time.monotonic()
    child, events, reader = start("plain")
    wait_for(lambda: events)
    # Without a zygote the imports alone take ten seconds.
    assert time.monotonic() - began < 5.0
    assert end_of(child, reader) == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("invalid", Reason.invalid_dataset),
        ("memory", Reason.out_of_memory),
        ("disk", Reason.disk_full),
        ("wrapped-disk", Reason.disk_full),
        ("defect", Reason.internal_error),
    ],
)
def test_what_a_runner_raises_becomes_a_reason(start: Start, name: str, reason: Reason) -> None:
    child, events, reader = start(name)
    assert end_of(child, reader) == EXIT_FAILED
    failures = [event for event in events if isinstance(event, FailureEvent)]
    assert [failure.reason for failure in failures] == [reason]


def test_a_defect_leaves_its_traceback_in_the_log(start: Start) -> None:
    child, events, reader = start("defect")
    end_of(child, reader)
    assert any("ValueError: a defect" in line for line in logs(events))


def test_a_crash_is_told_by_its_signal(start: Start) -> None:
    child, _, reader = start("segfault")
    assert end_of(child, reader) == -signal.SIGSEGV


def test_output_becomes_log_events_without_control_characters(start: Start) -> None:
    child, events, reader = start("log")
    assert end_of(child, reader) == 0
    lines = logs(events)
    assert "to stdout \\x1b[31mred" in lines
    assert "to stderr" in lines
    assert "not utf-8: \\xff" in lines
    assert "without an end" in lines
    assert any(line.endswith("(cut)") and len(line) <= 16_384 for line in lines)


def test_a_flood_of_log_lines_is_cut(start: Start) -> None:
    child, events, reader = start("flood")
    assert end_of(child, reader) == 0
    lines = logs(events)
    assert len(lines) < 2000
    assert any("log lines were dropped" in line for line in lines)


def test_a_child_sees_no_secret_and_no_foreign_descriptor(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    child, events, reader = start("environment")
    end_of(child, reader)
    lines = logs(events)
    names = {line.partition("=")[0] for line in lines}
    assert not [name for name in names if name.startswith("EIGENWERK_") and name != "EIGENWERK_TORCH_THREADS"]
    assert "CUDA_VISIBLE_DEVICES=" in lines
    assert "OMP_NUM_THREADS=1" in lines
    # 0, 1, 2, the event pipe, and the listing of the folder itself.
    assert "descriptors=[0, 1, 2, 3, 4]" in lines
    assert "group=True session=True" in lines


def test_secrets_of_the_worker_are_not_in_the_zygotes_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENWERK_S3_SECRET_KEY", "very-secret")
    client = ZygoteClient(RUNNERS)
    try:
        assert client.ready.wait(30)
        assert b"very-secret" not in Path(f"/proc/{client.pid}/environ").read_bytes()
    finally:
        client.close()


def test_what_a_child_leaves_behind_is_killed(start: Start) -> None:
    child, events, reader = start("grandchild")
    assert end_of(child, reader) == 0
    grandchild = next(int(line.partition("=")[2]) for line in logs(events) if line.startswith("grandchild"))
    wait_for(lambda: not Path(f"/proc/{grandchild}").exists() or _is_zombie(grandchild))


def test_sigusr1_right_after_the_fork_asks_for_a_checkpoint(start: Start) -> None:
    child, events, reader = start("steps")
    child.signal(signal.SIGUSR1)
    assert end_of(child, reader) == EXIT_STOPPED
    assert any(event.type == "checkpoint" for event in events)


def test_the_zygote_has_one_thread(zygote: ZygoteClient) -> None:
    assert len(list(Path(f"/proc/{zygote.pid}/task").iterdir())) == 1


def test_loading_the_runners_neither_looks_for_gpus_nor_imports_what_does() -> None:
    code = """
import sys, torch
asked = []
torch.cuda.is_available = lambda: bool(asked.append("is_available"))
torch.cuda.device_count = lambda: asked.append("device_count") or 0
from workers.process.zygote import load_runners
load_runners("workers.runners.registry:RUNNERS")
print(asked + sorted({"bitsandbytes", "datasets", "peft", "trl"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_children_die_with_their_zygote(tmp_path: Path) -> None:
    client = ZygoteClient(RUNNERS)
    assert client.ready.wait(30)
    child, _, _ = spawn(client, tmp_path / "job", "sleep")
    os.kill(client.pid, signal.SIGKILL)
    assert child.exited.wait(10)
    assert child.status == signal.SIGKILL
    wait_for(lambda: not Path(f"/proc/{child.pid}").exists())
    with pytest.raises(ZygoteUnavailable):
        client.spawn(tmp_path / "job" / "task.json")
    client.close()


def test_a_zygote_that_does_not_fork_in_time_is_given_up_and_starts_nothing_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = ZygoteClient(RUNNERS)
    assert client.ready.wait(30)
    monkeypatch.setattr("workers.process.zygote_client._FORK_S", 0.2)
    os.kill(client.pid, signal.SIGSTOP)
    with pytest.raises(ZygoteUnavailable):
        spawn(client, tmp_path / "job", "sleep")
    wait_for(lambda: not client.alive)
    client.close()


def test_a_child_that_nobody_waits_for_any_more_is_killed(zygote: ZygoteClient, start: Start) -> None:
    child, _, reader = start("sleep")
    zygote._handle({"started": "given up", "pid": child.pid})
    assert end_of(child, reader) == -signal.SIGKILL
    zygote._handle({"exited": "given up", "status": 9})
    assert zygote.alive


def test_a_zygote_whose_messages_make_no_sense_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = ZygoteClient(RUNNERS)
    assert client.ready.wait(30)
    child, _, reader = spawn(client, tmp_path / "job", "sleep")
    monkeypatch.setattr(client, "_handle", {}.__getitem__)
    # Its end is a message, and the next one that comes.
    child.signal(signal.SIGTERM)
    wait_for(lambda: not client.alive)
    assert end_of(child, reader) == -signal.SIGKILL
    client.close()


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
