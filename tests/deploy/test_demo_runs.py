"""`python -m deploy.demo` to its end, on a tiny model and made-up headlines, behind a proxy that answers nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded.processes import free_port
from tests.models import build_tiny_encoder

#: Inherits every process that the demo leaves behind; says so, and ends it.
_KEEPER = """
import subprocess, sys
from deploy.embedded import orphans
orphans.adopt()
code = subprocess.run([sys.executable, "-m", "deploy.demo", *sys.argv[1:]]).returncode
if left := orphans.kill_all():
    sys.exit(f"{left} process(es) were left running")
sys.exit(code)
"""
_TIMEOUT_S = 240.0


@pytest.fixture
def scratch() -> Iterator[Path]:
    """For the demo's temporary files. Others may pass through: started by root, PostgreSQL runs as somebody else."""
    with tempfile.TemporaryDirectory(prefix="eigenwerk-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def demo(tmp_path: Path, scratch: Path) -> Iterator[subprocess.Popen[str]]:
    model = build_tiny_encoder(tmp_path / "tiny")
    # Only the proxy leads out, and it is away: the headlines are generated.
    proxy = f"http://127.0.0.1:{free_port()}"
    environment = {
        **{"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(scratch)},
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy),
    }
    started = subprocess.Popen(
        [sys.executable, "-c", _KEEPER, "--model", str(model), "--rows", "400"],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield started
    if started.poll() is None:
        os.killpg(started.pid, signal.SIGKILL)
    started.communicate()


def test_the_demo_runs_to_its_end_and_leaves_nothing_behind(demo: subprocess.Popen[str], scratch: Path) -> None:
    printed, complaints = demo.communicate(timeout=_TIMEOUT_S)
    assert (demo.returncode, complaints) == (0, ""), printed
    lines = printed.splitlines()
    assert lines[-1] == "demo: ok"
    assert any(line.split()[:2] == ["data", "generated"] for line in lines)
    assert "rows      300 to train on, 100 held out to judge with" in lines
    assert sum(line.startswith("served ") for line in lines) == 2
    # torch keeps an empty folder of its own there.
    assert not list(scratch.glob("eigenwerk*"))
