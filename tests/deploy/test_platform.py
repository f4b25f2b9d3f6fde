"""`python -m deploy.embedded up` with the real servers and stand-ins for the platform's own modules."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import deploy
from deploy.embedded.api_address import ApiAddress, choose_address
from deploy.embedded.errors import EmbeddedError
from deploy.embedded.given import Given
from deploy.embedded.host_memory import MEMORY_LEAST_BYTES, MEMORY_RESERVE_BYTES, host_memory_bytes
from deploy.embedded.processes import ManagedProcess, Server, free_port
from deploy.embedded.stack import EmbeddedServices

_API = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path in ("/readyz", "/healthz") else 404)
        self.end_headers()
HTTPServer((os.environ["EIGENWERK_API_HOST"], int(os.environ["EIGENWERK_API_PORT"])), Handler).serve_forever()
"""
#: Notes its environment, and leaves a child in a session of its own that ignores SIGTERM, as it does itself on demand.
_WORKER = """
import json, os, signal, subprocess, sys, time
if "EIGENWERK_DEAF" in os.environ:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
left = subprocess.Popen(["/bin/sh", "-c", "trap '' TERM; while true; do sleep 1; done"], start_new_session=True)
note = {"pid": os.getpid(), "left": left.pid, "environment": dict(os.environ)}
draft = os.environ["EIGENWERK_NOTE"] + "." + sys.argv[0].rsplit("/", 1)[1]
open(draft + ".new", "w").write(json.dumps(note))
os.rename(draft + ".new", draft)
while True:
    open(os.environ["EIGENWERK_ALIVE_FILE"], "w").write(str(time.monotonic()))
    time.sleep(0.1)
"""
_MIGRATE = """
import os, sys
assert sys.argv[1] == "--admin-token-file" and os.environ["EIGENWERK_DATABASE_URL"]
token = open(sys.argv[2]).read().strip()
assert token.startswith("ew_") and len(token) == 46
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of `deploy` beside stand-ins for the modules that it starts."""
    project = tmp_path / "project"
    shutil.copytree(Path(deploy.__file__).parent, project / "deploy")
    stand_ins = {"api": _API, "storage/migrate": _MIGRATE, "storage/reaching": ""}
    stand_ins |= {f"workers/{name}": _WORKER for name in ("scheduler", "errands", "agent", "inference")}
    for name, text in stand_ins.items():
        path = project / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return project


@pytest.fixture
def up(project: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Runs `up` on a home of the test's own."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "deploy.embedded", "up", "--home", str(tmp_path / "home"), *arguments]
        environment = {
            "PATH": os.environ["PATH"],
            "EIGENWERK_NOTE": str(tmp_path / "note"),
            "EIGENWERK_TOKEN": "someone's",
            "AWS_SECRET_ACCESS_KEY": "theirs",
            **more,
        }
        log = (tmp_path / "up.log").open("a")
        with log:
            process = subprocess.Popen(command, cwd=project, env=environment, stderr=log, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
    if (tmp_path / "home").exists():
        EmbeddedServices(tmp_path / "home").remove_data()


def wait_for(path: Path, process: subprocess.Popen[str], log: Path) -> str:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return path.read_text()


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(pid: int) -> set[int]:
    listings = Path(f"/proc/{pid}/task").glob("*/children")
    found = {int(child) for listing in listings for child in listing.read_text().split()}
    return found.union(*(descendants(child) for child in found))


def test_up_runs_restarts_and_stops_everything(up: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    port, home, log = free_port(), tmp_path / "home", tmp_path / "up.log"
    process = up("--port", str(port), "--slots", "3", "--ready-file", str(tmp_path / "ready"))
    assert wait_for(tmp_path / "ready", process, log) == f"http://127.0.0.1:{port}\n"

    access = json.loads((home / "platform.json").read_text())
    assert stat.S_IMODE((home / "platform.json").stat().st_mode) == 0o600
    assert access == {
        "url": f"http://127.0.0.1:{port}",
        "token": (home / "admin-token").read_text().strip(),
        "pid": process.pid,
    }
    assert f"Eigenwerk is ready at {access['url']} (token in {home}/platform.json)" in log.read_text()

    worker = json.loads(wait_for(tmp_path / "note.agent.py", process, log))
    environment = worker["environment"]
    assert environment["EIGENWERK_SLOTS"] == "3"
    assert environment["EIGENWERK_DRAIN_S"] == "120"
    assert environment["EIGENWERK_SCRATCH_DIR"] == str(home / "scratch")
    assert environment["EIGENWERK_DATABASE_URL"].startswith("postgresql+psycopg://")
    assert int(environment["EIGENWERK_MEMORY_BYTES"]) >= MEMORY_LEAST_BYTES
    assert environment["EIGENWERK_HOST_NAME"]
    assert not {"EIGENWERK_TOKEN", "AWS_SECRET_ACCESS_KEY", "EIGENWERK_API_PORT"} & environment.keys()

    second = up()
    assert second.wait(30) == 1
    assert "is running on" in log.read_text()

    (tmp_path / "note.agent.py").unlink()
    os.kill(worker["pid"], signal.SIGKILL)
    assert json.loads(wait_for(tmp_path / "note.agent.py", process, log))["pid"] != worker["pid"]
    assert "worker ended unexpectedly; starting it again in 1 s" in log.read_text()

    everything = descendants(process.pid)
    assert len(everything) >= 3 + 4
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, log.read_text()
    assert not [pid for pid in everything | {worker["left"]} if running(pid)]
    assert not (home / "platform.json").exists()
    assert not (tmp_path / "ready").exists()


def test_up_uses_the_services_and_the_address_that_are_given_and_restarts_what_no_longer_answers(
    up: Callable[..., subprocess.Popen[str]], tmp_path: Path, services: EmbeddedServices, database_url: str
) -> None:
    log = tmp_path / "up.log"
    given = {**services.environment(), "EIGENWERK_DATABASE_URL": database_url.replace("+psycopg", "")}
    own = {"EIGENWERK_API_HOST": "127.0.0.2", "EIGENWERK_PATIENCE_S": "3", "EIGENWERK_DEAF": "yes"}
    process = up("--ready-file", str(tmp_path / "ready"), **given, **own)
    assert wait_for(tmp_path / "ready", process, log).startswith("http://127.0.0.2:")
    environment = json.loads(wait_for(tmp_path / "note.agent.py", process, log))["environment"]
    assert {name: environment[name] for name in given} == {**given, "EIGENWERK_DATABASE_URL": database_url}
    text = log.read_text()
    assert f"PostgreSQL: given, 127.0.0.1:{database_url.rsplit(':', 1)[1]}; Redis: given, 127.0.0.1:" in text
    assert services.object_access.endpoint.removeprefix("http://") in text
    assert not [
        name for name in ("postgres_password", "redis_password", "s3_secret_key") if services.home.secret(name) in text
    ]
    assert "starting postgres" not in text
    assert "starting redis" not in text
    assert "starting objects" not in text

    hung = json.loads((tmp_path / "note.agent.py").read_text())["pid"]
    (tmp_path / "note.agent.py").unlink()
    os.kill(hung, signal.SIGSTOP)
    assert json.loads(wait_for(tmp_path / "note.agent.py", process, log))["pid"] != hung
    assert "worker has not answered for 3 s: ending it" in log.read_text()
    assert "scheduler has not answered" not in log.read_text()
    # The first one waits for answers in hand, for 120 s; the second one for nothing.
    process.send_signal(signal.SIGINT)
    while "stopping inference" not in log.read_text():
        assert process.poll() is None
    assert "stopping; answers in hand get up to 120 s" in log.read_text()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, log.read_text()
    assert "stopping at once" in log.read_text()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"EIGENWERK_S3_ENDPOINT": "http://s3", "EIGENWERK_S3_ACCESS_KEY": "a"}, "but not EIGENWERK_S3_SECRET_KEY"),
        ({"EIGENWERK_S3_BUCKET": "mine"}, "but not EIGENWERK_S3_ENDPOINT"),
        ({"EIGENWERK_DATABASE_URL": "mysql://u:secret@h/d"}, "must begin with postgresql://"),
        ({"EIGENWERK_REDIS_URL": "h:6379"}, "must begin with redis://"),
        ({"EIGENWERK_DATABASE_URL": "postgresql://u:pa/secret@h/d"}, "write each @ : / "),
        ({"EIGENWERK_DATABASE_URL": "postgresql://u:12/secret@h/d"}, "write each @ : / "),
        ({"EIGENWERK_DATABASE_URL": "postgresql://u:a@secret@h/d"}, "write each @ : / "),
        ({"EIGENWERK_REDIS_URL": "redis://:a#secret@h:6379"}, "write each @ : / "),
        ({"EIGENWERK_REDIS_URL": "redis://h:secret"}, "the port as a number"),
    ],
)
def test_a_service_that_cannot_be_used_is_refused_with_the_reason(environment: dict[str, str], words: str) -> None:
    with pytest.raises(EmbeddedError, match=words) as refused:
        Given.from_environment(environment)
    assert "secret" not in str(refused.value)


def test_each_service_is_given_by_itself() -> None:
    given = Given.from_environment({"EIGENWERK_REDIS_URL": "redis://:secret@cache.example:6380/2"})
    assert given.description() == "PostgreSQL: embedded; Redis: given, cache.example:6380/2; S3: embedded"
    assert Given.from_environment({}) == Given()


def test_the_api_listens_where_it_is_told_and_the_option_wins() -> None:
    port = str(free_port())
    assert choose_address(None, {"EIGENWERK_API_HOST": "::1", "EIGENWERK_API_PORT": port}).url == f"http://[::1]:{port}"
    assert choose_address(int(port), {"EIGENWERK_API_PORT": "1"}).port == int(port)
    assert ApiAddress("0.0.0.0", 80).url == "http://127.0.0.1:80"  # noqa: S104
    with pytest.raises(EmbeddedError, match="not this machine's"):
        choose_address(int(port), {"EIGENWERK_API_HOST": "192.0.2.1"})
    with pytest.raises(EmbeddedError, match="no port"):
        choose_address(None, {"EIGENWERK_API_PORT": "many"})


def test_a_failed_migration_ends_up_with_its_reason(
    up: Callable[..., subprocess.Popen[str]], project: Path, tmp_path: Path
) -> None:
    (project / "storage" / "migrate.py").write_text("raise SystemExit('no such revision')")
    assert up().wait(60) == 1
    text = (tmp_path / "up.log").read_text()
    assert "could not be brought to the newest schema" in text
    assert "no such revision" in text


class NotReady(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b'{"reasons": ["The object store does not answer."]}')

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_an_api_that_is_not_ready_says_why(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), NotReady)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    address = ApiAddress("127.0.0.1", server.server_port)
    process = ManagedProcess(
        name="api", argv=("/bin/sleep", "600"), environment={}, directory=tmp_path, log=tmp_path / "log"
    )
    try:
        with pytest.raises(EmbeddedError, match=r"api is not ready after 0\.1 s: The object store does not answer\."):
            Server(process=process, is_ready=address.is_ready, reasons=address.reasons, timeout_s=0.1).start()
    finally:
        process.kill()
        server.shutdown()
        server.server_close()


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_the_host_keeps_memory_for_itself() -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert MEMORY_LEAST_BYTES <= host_memory_bytes() <= max(physical - MEMORY_RESERVE_BYTES, MEMORY_LEAST_BYTES)


@pytest.mark.parametrize(
    ("own", "limits", "bytes_allowed"),
    [
        ("0::/", {"memory.max": 7 * 2**30}, 7 * 2**30),
        ("0::/up.slice/up.service", {"memory.max": "max", "up.slice/memory.max": 7 * 2**30}, 7 * 2**30),
        ("4:cpu,memory:/not/mounted", {"memory/memory.limit_in_bytes": 7 * 2**30}, 7 * 2**30),
        ("4:memory:/up", {"memory/memory.limit_in_bytes": 2**63, "memory/up/memory.limit_in_bytes": 2**30}, 2**30),
        ("0::/other\n4:cpu:/up", {"up/memory.max": 2**30, "memory.max": "max"}, None),
    ],
)
def test_a_container_may_use_what_its_limit_leaves(
    own: str, limits: dict[str, int | str], bytes_allowed: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**24}.__getitem__)
    (tmp_path / "own").write_text(f"{own}\n")
    for name, limit in limits.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(f"{limit}\n")
    expected = max((bytes_allowed or 64 * 2**30) - MEMORY_RESERVE_BYTES, MEMORY_LEAST_BYTES)
    assert host_memory_bytes(tmp_path / "cgroup", tmp_path / "own") == expected


def test_a_proxy_is_not_asked_whether_the_api_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ready)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    try:
        assert ApiAddress("127.0.0.1", server.server_port).is_ready()
    finally:
        server.shutdown()
        server.server_close()
