from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from eigenwerk.cli.application import main
from tests.client.stub import StubPlatform


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubPlatform]:
    stub = StubPlatform()
    server = stub.start()
    monkeypatch.setenv("EIGENWERK_URL", stub.url)
    monkeypatch.setenv("EIGENWERK_TOKEN", "ew_test")
    yield stub
    server.shutdown()
    server.server_close()


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs `eigenwerk ...` and returns the exit code and what it printed."""
    monkeypatch.setenv("EIGENWERK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.stdin", io.StringIO("a line of somebody's\n"))

    def command(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = main(arguments)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return command
