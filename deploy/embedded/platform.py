"""The whole platform on one machine: servers, API, scheduler, a worker and an inference worker, kept running."""

from __future__ import annotations

import functools
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import deploy
from deploy.embedded import orphans
from deploy.embedded.api_address import ApiAddress, choose_address
from deploy.embedded.errors import EmbeddedError, hint_at_full_disk
from deploy.embedded.first_checks import check_start
from deploy.embedded.given import Given, without_secrets
from deploy.embedded.home import Home, write_private
from deploy.embedded.host_memory import host_memory_bytes
from deploy.embedded.processes import ManagedProcess, Server
from deploy.embedded.stack import EmbeddedServices
from deploy.embedded.stopping import DRAIN_VARIABLE, StopSignals, drain_s, stop_all
from deploy.embedded.supervision import (
    PART_PATIENCE_S,
    SERVER_PATIENCE_S,
    SignOfLife,
    Supervised,
    Watch,
    Watcher,
    fresh_sign,
    patience_s,
)

logger = logging.getLogger(__name__)

#: While the platform runs, how its services are reached (mode 600); for backups.
RUNNING_FILE = "services.json"
#: The parts that touch a file in each round of their main loop.
_WITH_A_SIGN = ("scheduler", "errands", "worker", "inference")
_POLL_S = 0.25
#: Under which the home keeps the key for what users entrust to the platform, where none is given.
SEALING_KEY = "secrets_key"
_KEY_VARIABLE = "EIGENWERK_SECRETS_KEY"

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
    #: Files of a certificate and its key, for https; the variables EIGENWERK_TLS_CERT and _KEY if absent.
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def environment(self) -> dict[str, str]:
        """The platform's environment, with what was told beside it."""
        told = {"EIGENWERK_TLS_CERT": self.tls_cert, "EIGENWERK_TLS_KEY": self.tls_key}
        return {**os.environ, **{name: str(path.absolute()) for name, path in told.items() if path is not None}}


def run(options: Options, stops: StopSignals) -> NoReturn:
    """Runs the platform until an exception (of `stops`, for one) ends it; then nothing is left running.

    Raises `EmbeddedError` when it cannot start.
    """
    orphans.adopt()
    environment = options.environment()
    given, settings = Given.from_environment(environment), inherited_settings(environment)
    patience_in_hand_s = drain_s(settings)
    check_start(options.home, given, settings, project_root())
    choose_address(options.port, environment)  # for its refusals; the servers that start meanwhile may take a port
    services = EmbeddedServices(options.home, given=given)
    logger.info("%s", given.description())
    try:
        with services:
            address = choose_address(options.port, environment)
            shared = {**settings, **services.environment(), DRAIN_VARIABLE: f"{patience_in_hand_s:g}"}
            token_file = _token_file(services.home)
            _migrate(services.home, shared, token_file)
            signs = {name: fresh_sign(services.home.folder("run"), name) for name in _WITH_A_SIGN}
            processes = platform_processes(services.home, shared, address=address, signs=signs, slots=options.slots)
            stops.patience = f"; answers in hand get up to {patience_in_hand_s:g} s (once more: at once)"
            stop = functools.partial(stop_all, processes, drain_s=patience_in_hand_s, at_once=stops.at_once)
            with _running(processes, stop), _announced(services, address, token_file, options.ready_file):
                _tend(services.servers(), processes, address, signs)
    finally:
        if left := orphans.kill_all():
            logger.warning("killed %d process(es) that were left running", left)


def platform_processes(
    home: Home,
    settings: Mapping[str, str],
    *,
    address: ApiAddress,
    signs: Mapping[str, SignOfLife],
    slots: int | None = None,
) -> list[Server | ManagedProcess]:
    """The platform's own processes in the order of their start, none of them started yet."""
    hub = _variables(_HUB_VARIABLES)
    api_settings = {
        "EIGENWERK_API_HOST": address.host,
        "EIGENWERK_API_PORT": str(address.port),
        # The system's folder for temporary files may be small, or in memory.
        "EIGENWERK_SPOOL_DIR": settings.get("EIGENWERK_SPOOL_DIR") or str(home.folder("spool")),
    }
    compute = {
        **hub,
        **_variables(_COMPUTE_VARIABLES),
        "EIGENWERK_HOST_NAME": settings.get("EIGENWERK_HOST_NAME", socket.gethostname()),
        "EIGENWERK_SLOTS": str(slots or settings.get("EIGENWERK_SLOTS") or len(os.sched_getaffinity(0))),
        "EIGENWERK_MEMORY_BYTES": settings.get("EIGENWERK_MEMORY_BYTES", str(host_memory_bytes())),
        "EIGENWERK_SCRATCH_DIR": settings.get("EIGENWERK_SCRATCH_DIR") or str(home.folder("scratch")),
        "EIGENWERK_ENVIRONMENTS_DIR": settings.get("EIGENWERK_ENVIRONMENTS_DIR") or str(home.path / "environments"),
    }

    def with_a_sign(name: str, module: str, environment: Mapping[str, str]) -> ManagedProcess:
        return _module(home, name, module, {**environment, "EIGENWERK_ALIVE_FILE": str(signs[name].path)})

    # For those four alone: engines, jobs and the scheduler have nothing to open.
    secrets = {_KEY_VARIABLE: settings.get(_KEY_VARIABLE) or home.secret(SEALING_KEY)}
    settings = {name: value for name, value in settings.items() if name != _KEY_VARIABLE}
    api = _module(home, "api", "api", {**settings, **hub, **api_settings, **secrets})
    return [
        Server(process=api, is_ready=address.is_ready, reasons=address.reasons, timeout_s=120.0),
        with_a_sign("scheduler", "workers.scheduler", settings),
        with_a_sign("errands", "workers.errands", {**settings, **_variables(("SSL_CERT_FILE",)), **secrets}),
        with_a_sign("worker", "workers.agent", {**settings, **compute, **secrets}),
        with_a_sign("inference", "workers.inference", {**settings, **compute, **secrets}),
    ]


def _variables(names: Iterable[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def inherited_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What the platform's processes take over from the environment: what every program needs, and its own settings."""
    return {
        name: value
        for name, value in environment.items()
        if name in _BASIC_VARIABLES or (name.startswith("EIGENWERK_") and name not in _CLIENT_VARIABLES)
    }


def _module(home: Home, name: str, module: str, environment: Mapping[str, str]) -> ManagedProcess:
    return ManagedProcess(
        name=name,
        argv=(sys.executable, "-m", module),
        environment={**environment, "PYTHONUNBUFFERED": "1"},
        directory=project_root(),
        log=home.log(name),
    )


def project_root() -> Path:
    """Where the platform's modules are found."""
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
        cwd=project_root(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = without_secrets(done.stderr, settings)
    home.log("migrate").write_text(done.stdout + said)
    if done.returncode != 0:
        end = "\n".join(said.splitlines()[-20:])
        raise EmbeddedError(f"the database could not be brought to the newest schema ({home.log('migrate')}):\n{end}")
    logger.info("the database is up to date (%.1f s)", time.monotonic() - began)


@contextmanager
def _running(processes: list[Server | ManagedProcess], stop: Callable[[], None]) -> Iterator[None]:
    """Starts them in order, waits for the ones that say when they are ready, and stops them."""
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
        stop()


@contextmanager
def _announced(
    services: EmbeddedServices, address: ApiAddress, token_file: Path, ready_file: Path | None
) -> Iterator[None]:
    # Its certificate names how others call this machine, so that is how clients here call it, too.
    url = (address.certificate and os.environ.get("EIGENWERK_PUBLIC_URL")) or address.url
    access, running = services.home.path / "platform.json", services.home.path / RUNNING_FILE
    write_private(access, {"url": url, "token": token_file.read_text().strip(), "pid": os.getpid()})
    write_private(running, {**services.environment(), "EIGENWERK_HOME": str(services.home.path.resolve())})
    try:
        if ready_file is not None:
            ready_file.write_text(f"{url}\n")
        logger.info("Eigenwerk is ready at %s (token in %s)", url, access)
        yield
    finally:
        for file in (access, running):
            file.unlink(missing_ok=True)
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


def _tend(
    servers: list[Server], parts: list[Server | ManagedProcess], address: ApiAddress, signs: Mapping[str, SignOfLife]
) -> NoReturn:
    processes = [*servers, *parts]
    watches = {
        server.name: Watch(server.name, server.answers or server.is_ready, patience_s(SERVER_PATIENCE_S))
        for server in servers
    }
    watches["api"] = Watch("api", address.is_alive, patience_s(PART_PATIENCE_S))
    watches |= {
        name: Watch(name, sign, patience_s(PART_PATIENCE_S), needs=watches.get("postgres"))
        for name, sign in signs.items()
    }
    supervised = [_supervised(process, watches[process.name]) for process in processes]
    with Watcher(list(watches.values())):
        while True:
            for one in supervised:
                one.tend()
            for process in processes:
                process.rotate_log()
            orphans.reap([process.pid for process in processes if process.pid is not None])
            time.sleep(_POLL_S)


def _supervised(process: Server | ManagedProcess, watch: Watch) -> Supervised:
    keeps_data = isinstance(process, Server) and watch.name != "api"
    return Supervised(
        process.name,
        process.alive,
        lambda: _start(process),
        # What keeps data is given the time to write it; nothing else hears a signal any more when it hangs.
        end=lambda: process.stop() if isinstance(process, Server) and keeps_data else process.kill(),
        watch=watch,
        hint=lambda: hint_at_full_disk(process.log.parent),
    )


def _start(process: Server | ManagedProcess) -> None:
    if isinstance(process, Server):
        process.launch()
    else:
        process.start()
