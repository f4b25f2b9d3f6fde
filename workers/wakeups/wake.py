"""`python -m workers.wakeups.wake`: receives a host's wake-ups and passes them to the worker through a pipe.

A process of its own, because Celery's state is global and its consumer can hang after trouble with Redis: the worker
can end and replace it, and does its work without it.
"""

from __future__ import annotations

import argparse
import logging
import os
from uuid import UUID

from celery import Celery

from storage.settings import LOG_FORMAT
from workers.daemon.process_control import die_with_parent
from workers.wakeups.celery_app import WAKE_TASK, make_app, queue_of

log = logging.getLogger(__name__)


def add_wake_task(app: Celery, pipe: int) -> None:
    """Registers the one task there is. What isn't the id of a job or delivery, and a fence, is dropped."""

    @app.task(name=WAKE_TASK)  # type: ignore[untyped-decorator]
    def wake(job_id: str, fence: int) -> None:
        try:
            line = f"{UUID(job_id)} {int(fence)}\n"
        except (ValueError, AttributeError, TypeError):
            log.warning("a wake-up that names nothing was dropped")
            return
        os.write(pipe, line.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="Receives wake-ups for a worker. Started by the worker.")
    parser.add_argument("--host", required=True)
    parser.add_argument("--pipe-fd", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    arguments = parser.parse_args()
    die_with_parent(arguments.parent_pid)
    logging.basicConfig(level=logging.WARNING, format=LOG_FORMAT)
    app = make_app(os.environ["EIGENWERK_REDIS_URL"])
    queue = queue_of(arguments.host)
    app.conf.task_queues = [queue]
    add_wake_task(app, arguments.pipe_fd)
    worker = app.Worker(
        hostname=f"wake@{arguments.host}",
        pool="solo",
        queues=[queue.name],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        task_events=False,
        quiet=True,
        loglevel="WARNING",
    )
    worker.start()


if __name__ == "__main__":
    main()
