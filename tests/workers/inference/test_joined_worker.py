"""`eigenwerk inference` and `eigenwerk worker`, as people start them on another machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.workers.inference.conftest import Place, eventually

_SETTINGS = ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_BUCKET")


def start(place: Place, command: str, scratch: Path, **more: str) -> subprocess.Popen[str]:
    """The command as host `gpu-1`, with all that it knows in a file."""
    scratch.mkdir(exist_ok=True)
    names = [f"EIGENWERK_{name}" for name in _SETTINGS]
    settings = {name: place.environment[name] for name in names} | {
        "EIGENWERK_HOST_NAME": "gpu-1",
        "EIGENWERK_SCRATCH_DIR": str(scratch),
        "EIGENWERK_WARM_ENGINE": "0",
        **more,
    }
    path = scratch / "settings"
    path.touch(0o600)
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return subprocess.Popen(
        [sys.executable, "-m", "eigenwerk.cli", command, "--settings", str(path)],
        env={name: value for name, value in place.environment.items() if not name.startswith("EIGENWERK_")},
        stderr=subprocess.PIPE,
        text=True,
    )


def refusal(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    return said


def test_a_worker_on_another_machine_joins_with_a_token_and_a_second_of_its_name_is_refused(
    place: Place, tmp_path: Path
) -> None:
    with place.database.unit_of_work() as work:
        work.users.add_token(place.owner_id, "ew_invited", scopes=["join"])
    for command in ("inference", "worker"):
        assert "gpu-1 has not joined this platform" in refusal(start(place, command, tmp_path / "one"))
    joined = start(place, "inference", tmp_path / "one", EIGENWERK_JOIN_TOKEN="ew_invited")
    try:

        def announced() -> bool:
            with place.database.unit_of_work() as work:
                return any(host.memory_bytes and host.joined_at and host.machine for host in work.hosts.alive())

        eventually(announced, "the host has joined and announced itself")
        # The host has joined, so it is the name that stands in the way, not the token.
        assert "another worker works under the name 'gpu-1'" in refusal(start(place, "inference", tmp_path / "two"))
    finally:
        joined.terminate()
        joined.communicate(timeout=60)
    assert joined.returncode == 0
