"""The whole platform on one machine: servers, API, scheduler, a worker and an inference worker, kept running."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import deploy
from deploy.embedded import orphans
from deploy.embedded.errors import EmbeddedError
from deploy.embedded.home import Home, write_private
from deploy.embedded.host_memory import host_memory_bytes
from deploy.embedded.processes import ManagedProcess, Server, free_port, port_is_free
from deploy.embedded.stack import EmbeddedServices

logger = logging.getLogger(__name__)

DEFAULT_PORT = 8480
BACKOFF_MAX_S = 30.0
#: A process that ran this long is restarted without having to wait for its earlier deaths.
STEADY_S = 60.0
_POLL_S = 0.25

_BASIC_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH")
#: The way to a model hub: the API looks revisions up, the worker fetches files.
_HUB_VARIABLES = (
    *("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
    *("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"),
)
#: For what computes.
_COMPUTE_VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME", "LD_LIBRARY_PATH", "HF_HOME")
#: The caller's own access to a platform is no business of the platform's processes.
_CLIENT_VARIABLES = ("EIGENWERK_TOKEN", "EIGENWERK_URL", "EIGENWERK_HOME")


@dataclass(frozen=True)
class Options:
    """What `up` may be told; None means: choose."""

    home: Path | None = None
    port: int | None = None
    slots: int | None = None
    ready_file: Path | None = None


@dataclass
class Supervised:
    """A process that is started again when it ends, after 1, 2, 4 ... 30 s."""

    name: str
    alive: Callable[[], bool]
    start: Callable[[], None]
    clock: Callable[[], float] = time.monotonic
    _backoff_s: float = field(default=1.0, init=False)
    _started_at_s: float = field(init=False)
    _due_at_s: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._started_at_s = self.clock()

    def tend(self) -> None:
        """Looks at it once; restarts it when its time has come."""
        now_s = self.clock()
        if self._due_at_s is not None:
            if now_s >= self._due_at_s:
                self._due_at_s, self._started_at_s = None, now_s
                self.start()
        elif not self.alive():
            if now_s - self._started_at_s >= STEADY_S:
                self._backoff_s = 1.0
            logger.warning("%s ended unexpectedly; starting it again in %g s", self.name, self._backoff_s)
            self._due_at_s = now_s + self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, BACKOFF_MAX_S)


def run(options: Options) -> NoReturn:
    """Runs the platform until an exception (of a signal handler) ends it; then nothing is left running.

    Raises `EmbeddedError` when it cannot start.
    """
    orphans.adopt()
    services = EmbeddedServices(options.home)
    try:
        with services:
            port = _api_port(options.port)
            shared = {**_inherited_settings(os.environ), **services.environment()}
            token_file = _token_file(services.home)
            _migrate(services.home, shared, token_file)
            processes = platform_processes(services.home, shared, port=port, slots=options.slots)
            with _running(processes), _announced(services.home, port, token_file, options.ready_file):
                _tend([*services.servers(), *processes])
    finally:
        if left := orphans.kill_all():
            logger.warning("killed %d process(es) that were left running", left)


def platform_processes(
    home: Home, settings: Mapping[str, str], *, port: int, slots: int | None = None
) -> list[Server | ManagedProcess]:
    """The platform's own processes in the order of their start, none of them started yet."""
    hub = _variables(_HUB_VARIABLES)
    api_settings = {
        "EIGENWERK_API_HOST": "127.0.0.1",
        "EIGENWERK_API_PORT": str(port),
        # The system's folder for temporary files may be small, or in memory.
        "EIGENWERK_SPOOL_DIR": str(home.folder("spool")),
    }
    compute = {
        **hub,
        **_variables(_COMPUTE_VARIABLES),
        "EIGENWERK_HOST_NAME": settings.get("EIGENWERK_HOST_NAME", socket.gethostname()),
        "EIGENWERK_SLOTS": str(slots or settings.get("EIGENWERK_SLOTS") or len(os.sched_getaffinity(0))),
        "EIGENWERK_MEMORY_BYTES": settings.get("EIGENWERK_MEMORY_BYTES", str(host_memory_bytes())),
        "EIGENWERK_SCRATCH_DIR": str(home.folder("scratch")),
    }
    api = _module(home, "api", "api", {**settings, **hub, **api_settings}, None)
    return [
        Server(process=api, is_ready=lambda: _is_ready(port), timeout_s=120.0),
        _module(home, "scheduler", "workers.scheduler", settings, None),
        _module(home, "worker", "workers.agent", {**settings, **compute}, None),
        _module(home, "inference", "workers.inference", {**settings, **compute}, None),
    ]


def _variables(names: Iterable[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def _inherited_settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name in _BASIC_VARIABLES or (name.startswith("EIGENWERK_") and name not in _CLIENT_VARIABLES)
    }


def _module(
    home: Home, name: str, module: str, environment: Mapping[str, str], directory: Path | None
) -> ManagedProcess:
    return ManagedProcess(
        name=name,
        argv=(sys.executable, "-m", module),
        environment={**environment, "PYTHONUNBUFFERED": "1"},
        directory=directory or _project_root(),
        log=home.log(name),
    )


def _project_root() -> Path:
    return Path(deploy.__file__).parents[1]


def _token_file(home: Home) -> Path:
    """The administrator's token: `ew_` and 43 URL-safe characters, the same at each start."""
    path = home.path / "admin-token"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(f"ew_{home.secret('admin_token')}\n")
    return path


def _migrate(home: Home, settings: Mapping[str, str], token_file: Path) -> None:
    began = time.monotonic()
    logger.info("bringing the database to the newest schema")
    done = subprocess.run(
        [sys.executable, "-m", "storage.migrate", "--admin-token-file", str(token_file)],
        env=dict(settings),
        cwd=_project_root(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    home.log("migrate").write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        end = "\n".join(done.stderr.splitlines()[-20:])
        raise EmbeddedError(f"the database could not be brought to the newest schema ({home.log('migrate')}):\n{end}")
    logger.info("the database is up to date (%.1f s)", time.monotonic() - began)


@contextmanager
def _running(processes: list[Server | ManagedProcess]) -> Iterator[None]:
    """Starts them in order, waits for the ones that say when they are ready, and stops them in the reverse order."""
    began = time.monotonic()
    try:
        for process in processes:
            logger.info("starting %s", process.name)
            _start(process)
        for process in processes:
            if isinstance(process, Server):
                process.wait_until_ready()
                logger.info("%s is ready (%.1f s)", process.name, time.monotonic() - began)
        yield
    finally:
        for process in reversed(processes):
            logger.info("stopping %s", process.name)
            if isinstance(process, Server):
                process.stop()
            else:
                process.stop(25.0)  # longer than a job's child is given


@contextmanager
def _announced(home: Home, port: int, token_file: Path, ready_file: Path | None) -> Iterator[None]:
    url, access = f"http://127.0.0.1:{port}", home.path / "platform.json"
    write_private(access, {"url": url, "token": token_file.read_text().strip(), "pid": os.getpid()})
    try:
        if ready_file is not None:
            ready_file.write_text(f"{url}\n")
        logger.info("Eigenwerk is ready at %s (token in %s)", url, access)
        yield
    finally:
        access.unlink(missing_ok=True)
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


def _tend(processes: list[Server | ManagedProcess]) -> NoReturn:
    supervised = [
        Supervised(process.name, process.alive, lambda process=process: _start(process))  # type: ignore[misc]
        for process in processes
    ]
    while True:
        for one in supervised:
            one.tend()
        orphans.reap([process.pid for process in processes if process.pid is not None])
        time.sleep(_POLL_S)


def _start(process: Server | ManagedProcess) -> None:
    if isinstance(process, Server):
        process.launch()
    else:
        process.start()


def _api_port(wanted: int | None) -> int:
    if wanted is None:
        return DEFAULT_PORT if port_is_free(DEFAULT_PORT) else free_port()
    if not port_is_free(wanted):
        raise EmbeddedError(f"port {wanted} of 127.0.0.1 is in use; choose another with --port, or leave it out")
    return wanted


def _is_ready(port: int) -> bool:
    # The proxies of the environment are for the way out, not for the way to ourselves.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
