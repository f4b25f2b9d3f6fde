"""`python -m workers.inference`: serves what is deployed until SIGTERM."""

from __future__ import annotations

import logging
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from storage.database import Database, SchemaMismatch
from storage.objects import ObjectSettings, ObjectStore
from storage.settings import DRAIN_S, LOG_FORMAT, Settings, seconds, whole_number
from workers.daemon.heartbeat import sign_of_life
from workers.daemon.host import HostConfig
from workers.daemon.instance import FolderInUse, HostNameTaken, folder_instance
from workers.daemon.joining import MayNotJoin, admit, read_command_line
from workers.daemon.machine import MachineWatch
from workers.daemon.wakeup import Wakeup
from workers.engines.registry import ENGINES
from workers.files.host_cache import HostCache
from workers.files.hub import HubAccess, hub_access
from workers.inference.front import CONNECTIONS_MAX, Front
from workers.inference.means import Means
from workers.inference.model_folders import ModelFolders
from workers.inference.reconciler import POLL_S, Reconciler
from workers.inference.replicas import RestartPolicy

log = logging.getLogger(__name__)

#: Downloads at the same time; each is parallel inside.
PULLS_MAX = 2


def run(
    settings: Settings, config: HostConfig, *, threads: int, warm: bool, joining: bool, drain_s: float = DRAIN_S
) -> None:
    """Serves until SIGTERM or SIGINT; answers in hand then get `drain_s` seconds.

    Raises ValueError or RuntimeError for settings that can't work.

    Raises FolderInUse and HostNameTaken when another worker has its folder or its name, SchemaMismatch, and MayNotJoin
    when it is `joining` and may not.
    """
    wakeup = Wakeup()
    wakeup.catch_signals()
    database = Database(settings.database_url, connections_max=2, application="eigenwerk-inference")
    database.verify_schema()
    if joining:
        admit(database, config.name)
    store = ObjectStore(ObjectSettings.of(settings))
    secret_box = settings.secret_box()

    def access_of(owner_id: UUID) -> HubAccess | None:
        with database.unit_of_work() as work:
            return hub_access(work, secret_box, owner_id)

    scratch_dir = config.scratch_dir / "inference"
    cache = HostCache(config.cache_dir, store, bytes_max=config.cache_bytes_max)
    with folder_instance(scratch_dir) as instance, ThreadPoolExecutor(PULLS_MAX, thread_name_prefix="pull") as pool:
        means = Means(
            engines={name: make(scratch_dir / "logs") for name, make in ENGINES.items()},
            folders=ModelFolders(scratch_dir / "models", cache),
            pool=pool,
            wakeup=wakeup,
            threads=threads,
            policy=RestartPolicy(drain_s=drain_s),
            hub_access=access_of,
        )
        machine, front = MachineWatch(), _front(config)
        reconciler = Reconciler(
            database,
            config.name,
            config.memory_bytes,
            settings.lease,
            means,
            config.gpu_ids,
            warm,
            instance,
            machine,
            front,
        )
        machine.start()
        log.info("inference worker %s: %d bytes of memory", config.name, config.memory_bytes)
        alive = sign_of_life()
        while not wakeup.stopping:
            alive()
            reconciler.tick(time.monotonic())
            wakeup.wait(POLL_S, reconciler.wake_fds())
        log.info("stopping")
        reconciler.stop(time.monotonic())
        while not reconciler.stopped:
            alive()
            reconciler.tick_ending(time.monotonic())
            wakeup.wait(POLL_S / 10)
        reconciler.close()
        machine.stop()
        if front is not None:
            front.close()
    store.close()
    database.close()
    wakeup.close()


def _front(config: HostConfig) -> Front | None:
    """Raises RuntimeError for an address or a certificate that can't be used."""
    if config.address is None:
        return None
    given = (config.tls_cert, config.tls_key) if config.tls_cert and config.tls_key else None
    # Each connection is two files, and many systems allow 1,024 unless one asks for more.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * CONNECTIONS_MAX)), hard))
    try:
        return Front(config.address, given)
    except (OSError, ValueError) as error:
        raise RuntimeError(
            f"Engines can't be reached at EIGENWERK_HOST_ADDRESS={config.address}: {error}. Name an address of this "
            "machine, and a certificate for it with its key, or none."
        ) from error


def main() -> int:
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    try:
        joining = read_command_line("workers.inference")
        settings, config = Settings.from_environment(), HostConfig.from_environment()
        threads = max(1, whole_number(os.environ, "EIGENWERK_ENGINE_THREADS", 1))
        drain_s = seconds(os.environ, "EIGENWERK_DRAIN_S", DRAIN_S)
    except (RuntimeError, ValueError) as error:
        log.error("%s", error)
        return 1
    try:
        warm = os.environ.get("EIGENWERK_WARM_ENGINE", "1") != "0"
        run(settings, config, threads=threads, warm=warm, joining=joining, drain_s=drain_s)
    except (FolderInUse, HostNameTaken, MayNotJoin, SchemaMismatch, RuntimeError) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
