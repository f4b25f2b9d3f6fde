"""A real ENOSPC: the worker's scratch folder is a small tmpfs in a mount namespace of its own."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest

from jobspecs.lifecycle import JobState, Reason
from tests.faults.conftest import TRAINING, dataset
from tests.models import build_tiny_encoder
from tests.workers.harness import make_harness

SIZE_BYTES = 24 << 20
#: Mounts the tmpfs at $0 and becomes the worker.
_ENTER = ["sh", "-c", f'mount -t tmpfs -o size={SIZE_BYTES} tmpfs "$0" && exec "$@"']


def test_a_job_that_met_a_full_scratch_disk_waits_for_room_and_then_succeeds(
    database_url: str, redis_url: str, object_settings: dict[str, str], tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch-small"
    scratch.mkdir()
    wrapper = ["unshare", *_namespace_options(scratch), *_ENTER, str(scratch)]
    harness = make_harness(database_url, redis_url, object_settings, tmp_path)
    try:
        harness.prepare_inputs(build_tiny_encoder(tmp_path / "encoder"), dataset())
        harness.start_scheduler()
        worker = harness.start_worker("small", wrapper=wrapper, EIGENWERK_SCRATCH_FREE_MIN_BYTES=str(1 << 20))
        harness.wait_for_host("small", seconds=120)
        ballast = Path(f"/proc/{worker.pid}/root{scratch}/ballast")
        job_id = harness.submit("fits", training=TRAINING)
        harness.wait_for_step(job_id, 20)
        fill(ballast)
        job = harness.wait(job_id, JobState.queued)
        assert (job.reason, job.avoided_hosts) == (Reason.disk_full, ["small"])
        harness.wait_for_host("small", accepting=False, seconds=20)
        harness.make_due(job_id)
        ballast.unlink()
        harness.wait_for_host("small", seconds=20)
        assert harness.wait(job_id).state == JobState.succeeded
        assert harness.attempts(job_id) == 2
        harness.check_promise()
    finally:
        harness.close()


def fill(path: Path) -> None:
    """Writes until nothing fits any more."""
    with path.open("wb", buffering=0) as file:
        for block in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"\0" * block):
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC


def _namespace_options(scratch: Path) -> list[str]:
    for options in (["--mount"], ["--user", "--map-root-user", "--mount"]):
        command = ["unshare", *options, *_ENTER, str(scratch), "true"]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return options
    pytest.skip("this machine lets nobody mount a tmpfs in a namespace of its own")
