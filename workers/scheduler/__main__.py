"""`python -m workers.scheduler`: schedules until SIGTERM."""

from __future__ import annotations

import logging

from storage.database import Database
from storage.settings import Settings
from workers.daemon.signals import on_termination
from workers.scheduler.loop import Scheduler
from workers.scheduler.relay import CelerySender, Relay


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings.from_environment()
    database = Database(settings.database_url, connections_max=5, application="eigenwerk-scheduler")
    sender = CelerySender(settings.redis_url)
    relay = Relay(database, sender)
    scheduler = Scheduler(database, relay, poll_s=settings.poll_s, lease_s=settings.lease.lease_s)

    on_termination(scheduler.stop.set)
    scheduler.run()
    relay.stop()
    sender.close()
    database.close()


if __name__ == "__main__":
    main()
