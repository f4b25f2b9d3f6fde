"""`python -m workers.scheduler`: schedules until SIGTERM."""

from __future__ import annotations

import logging
import sys

from storage.database import Database, SchemaMismatch
from storage.settings import LOG_FORMAT, Settings
from workers.daemon.signals import on_termination
from workers.scheduler.loop import Scheduler
from workers.scheduler.relay import CelerySender, Relay

log = logging.getLogger(__name__)


def open_database(settings: Settings) -> Database:
    return Database(
        settings.database_url,
        connections_max=5,
        application="eigenwerk-scheduler",
        lock_timeout_s=settings.scheduler_lock_timeout_s,
    )


def main() -> int:
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    try:
        settings = Settings.from_environment()
    except (RuntimeError, ValueError) as error:
        log.error("error: %s", error)
        return 1
    database = open_database(settings)
    try:
        database.verify_schema()
    except SchemaMismatch as error:
        log.error("error: %s", error)
        return 1
    sender = CelerySender(settings.redis_url)
    relay = Relay(database, sender)
    scheduler = Scheduler(
        database,
        relay,
        poll_s=settings.poll_s,
        lease_s=settings.lease.lease_s,
        silent_s=settings.leader_silent_s,
    )

    on_termination(scheduler.stop.set)
    scheduler.run()
    relay.stop()
    sender.close()
    database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
