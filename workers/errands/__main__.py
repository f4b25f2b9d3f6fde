"""`python -m workers.errands`: sends what users want to be told, until SIGTERM. Any number may run."""

from __future__ import annotations

import logging
import sys

from storage.database import Database, SchemaMismatch
from storage.settings import LOG_FORMAT, Settings, webhook_addresses
from workers.daemon.heartbeat import sign_of_life
from workers.daemon.signals import on_termination
from workers.errands.delivering import Errands
from workers.errands.sending import Sender
from workers.wakeups.celery_app import ERRANDS
from workers.wakeups.listener import HintListener

log = logging.getLogger(__name__)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    try:
        settings, rules = Settings.from_environment(), webhook_addresses()
        box = settings.secret_box()
    except (RuntimeError, ValueError) as error:
        log.error("error: %s", error)
        return 1
    database = Database(settings.database_url, connections_max=4, application="eigenwerk-errands")
    try:
        database.verify_schema()
    except SchemaMismatch as error:
        log.error("error: %s", error)
        return 1
    errands = Errands(database, Sender(rules), box, poll_s=settings.poll_s)
    on_termination(errands.end)
    hints = HintListener(ERRANDS, settings.redis_url, errands.poke)
    errands.run(sign_of_life())
    hints.stop()
    database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
