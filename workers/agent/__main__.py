"""`python -m workers.agent`: runs the jobs that the scheduler gives to this host, until SIGTERM."""

from __future__ import annotations

import logging
import sys

from storage.database import Database, SchemaMismatch
from storage.objects import ObjectSettings, ObjectStore
from storage.progress import ProgressPublisher
from storage.settings import LOG_FORMAT, Settings
from workers.agent.housekeeping import Housekeeper
from workers.agent.retention import Retention
from workers.agent.supervisor import Supervisor, ZygoteKeeper
from workers.attempt.scratch import Scratch
from workers.attempt.services import Workbench
from workers.daemon.host import HostConfig
from workers.daemon.instance import FolderInUse, HostNameTaken, folder_instance
from workers.daemon.joining import MayNotJoin, admit, read_command_line
from workers.daemon.machine import MachineWatch
from workers.daemon.platform_clock import PlatformClock
from workers.daemon.signals import on_termination
from workers.files.host_cache import HostCache
from workers.wakeups.listener import HintListener

log = logging.getLogger(__name__)


def run(settings: Settings, config: HostConfig, *, joining: bool) -> None:
    """Returns after SIGTERM or SIGINT, when every attempt has ended.

    `joining`: the host must have joined. Raises FolderInUse, HostNameTaken, SchemaMismatch and MayNotJoin.
    """
    scratch = Scratch(config.scratch_dir)
    with folder_instance(scratch.root) as instance:
        scratch.remove_orphans()
        database = Database(settings.database_url, application="eigenwerk-worker")
        database.verify_schema()
        if joining:
            admit(database, config.name)
        store = ObjectStore(ObjectSettings.of(settings))
        publisher = ProgressPublisher(settings.redis_url)
        zygote = ZygoteKeeper(config.runners)
        clock = PlatformClock()
        bench = Workbench(
            host=config.name,
            database=database,
            store=store,
            publisher=publisher,
            cache=HostCache(config.cache_dir, store, bytes_max=config.cache_bytes_max),
            scratch=scratch,
            times=settings.lease,
            spawn=zygote.spawn,
            now=clock.now,
            secret_box=settings.secret_box(),
        )
        machine = MachineWatch()
        supervisor = Supervisor(
            config, bench, zygote, instance=instance, clock=clock, machine=machine, poll_s=settings.poll_s
        )

        on_termination(supervisor.stop)
        housekeeper = Housekeeper(
            database,
            store,
            checkpoints_kept_s=settings.checkpoints_kept_s,
            retention=Retention.from_environment(),
        )
        housekeeper.start()
        machine.start()
        hints = HintListener(config.name, settings.redis_url, supervisor.wake)
        try:
            supervisor.run()
        finally:
            hints.stop()
            machine.stop()
            housekeeper.stop()
            zygote.close()
            publisher.close()
            store.close()
            database.close()


def main() -> int:
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    try:
        joining = read_command_line("workers.agent")
        settings, config = Settings.from_environment(), HostConfig.from_environment()
    except (RuntimeError, ValueError) as error:
        log.error("%s", error)
        return 1
    try:
        run(settings, config, joining=joining)
    except (FolderInUse, HostNameTaken, MayNotJoin, SchemaMismatch, RuntimeError) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
