"""What a process takes is measured and written beside what was estimated; unchecked data are checked first."""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobspecs.estimate import Duration, Estimate, MemoryParts
from jobspecs.events import ChildEvent, LogEvent, StageEvent
from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest, describe_files, read_manifest, write_manifest
from jobspecs.registry import parse_spec
from workers.process.data_check import check_before_running
from workers.process.usage import Usage, add_usage
from workers.run.context import RunContext, RunFailed, RunStopped

MIB = 2**20
SPEC = {"kind": "train-classifier", "name": "n", "model": "m", "dataset": "d", "text": "text", "label": "label"}


def touch(count_bytes: int) -> None:
    """Takes memory and gives it back."""
    with mmap.mmap(-1, count_bytes) as area:
        for place in range(0, count_bytes, mmap.PAGESIZE):
            area[place] = 1


def test_the_peak_counts_even_after_the_memory_was_given_back_and_what_was_there_before_does_not() -> None:
    touch(96 * MIB)
    usage = Usage()
    touch(64 * MIB)
    measured = usage.memory_bytes
    assert measured is not None
    assert 60 * MIB < measured < 80 * MIB


#: A process with 64 MiB, and its child, which begins to count and then does what stands in place of `{}`.
FORKED = """
import os, mmap
from pathlib import Path
from workers.process.usage import Usage

mine = bytearray(b"x") * (64 << 20)
if os.fork() == 0:
    usage = Usage()
    {}
    print(usage.memory_bytes, flush=True)
    os._exit(0)
os.wait()
"""


def counted_of_child(what_it_does: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FORKED.format(what_it_does)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_pages_that_a_child_writes_to_are_its_own_from_then_on() -> None:
    copied = counted_of_child("mine[::4096] = bytes(len(mine) // 4096)")
    assert 60 * MIB < copied < 80 * MIB


def test_pages_of_files_that_others_have_in_memory_too_do_not_count(tmp_path: Path) -> None:
    library = tmp_path / "library.so"
    library.write_bytes(bytes(64 * MIB))
    used = counted_of_child(f"kept = mmap.mmap(os.open({str(library)!r}, 0), 0, prot=mmap.PROT_READ); kept[::4096]")
    assert used < 16 * MIB


def test_the_report_gets_estimate_and_measurement_and_the_digest_stays(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    write_manifest(tmp_path, Manifest(artifact="model", files=describe_files(tmp_path), report={"rows": 3}))
    before = read_manifest(tmp_path)
    estimate = Estimate(
        kind="train-classifier",
        parameters=10,
        trainable_parameters=10,
        main_memory=MemoryParts(weights=40, gradients=40),
        tokens=5,
        operations=1e6,
        duration=Duration(low_s=1, high_s=2, basis="assumed"),
    )
    add_usage(tmp_path, Usage(clock=iter((0.0, 4.0)).__next__), estimate, resumed=False)
    after = read_manifest(tmp_path)
    assert after.digest == before.digest
    assert after.report["rows"] == 3
    assert after.report["memory"]["estimated_bytes"] == 80
    assert after.report["memory"]["measured_bytes"] >= 0
    assert after.report["duration"]["measured_s"] == 4.0
    assert after.report["duration"]["operations_per_s"] == 250_000


def test_a_resumed_attempt_says_nothing_of_speed(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest(artifact="model", files=()))
    add_usage(tmp_path, Usage(), None, resumed=True)
    assert read_manifest(tmp_path).report["duration"]["operations_per_s"] is None


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., tuple[RunContext, list[ChildEvent]]]:
    def make(rows: str, stop: bool = False) -> tuple[RunContext, list[ChildEvent]]:
        path, events = tmp_path / "rows.csv", list[ChildEvent]()
        path.write_text("text,label\n" + rows, encoding="utf-8")
        made = RunContext(
            spec=parse_spec(SPEC),
            dataset_path=path,
            model_dir=None,
            output_dir=tmp_path,
            checkpoints_dir=tmp_path,
            resume_from=None,
            emit=events.append,
            stop_requested=lambda: stop,
        )
        return made, events

    return make


def test_bad_rows_are_found_before_a_model_is_loaded(
    context: Callable[..., tuple[RunContext, list[ChildEvent]]],
) -> None:
    checked, events = context("one,good\ntwo,bad\n ,bad\n")
    with pytest.raises(RunFailed) as failure:
        check_before_running(checked)
    assert failure.value.reason is Reason.invalid_dataset
    assert "row 3" in failure.value.message
    assert [event.stage for event in events if isinstance(event, StageEvent)] == ["check"]


def test_warnings_go_to_the_log(context: Callable[..., tuple[RunContext, list[ChildEvent]]]) -> None:
    checked, events = context("one,good\ntwo,bad\nthree,good\nfour,bad\n" * 5)
    check_before_running(checked)
    found = [event.message for event in events if isinstance(event, LogEvent) and event.level == "warning"]
    assert any("repeat an earlier one" in message for message in found)


def test_a_check_stops_when_it_is_asked_to(context: Callable[..., tuple[RunContext, list[ChildEvent]]]) -> None:
    checked, _ = context("one,good\ntwo,bad\n" * 2000, stop=True)
    with pytest.raises(RunStopped):
        check_before_running(checked)
