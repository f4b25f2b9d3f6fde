"""Celery, reduced to what is safe on Redis: a wake-up that may be lost, doubled or late without harm.

PostgreSQL holds every job. A message says only "look there now"; whoever receives it re-reads the state. So messages
are acknowledged at once, carry no result, no delay and no priority, and nothing is ever revoked.
"""

from __future__ import annotations

from celery import Celery
from kombu import Exchange, Queue

WAKE_TASK = "workers.wake"
#: Who runs errands is woken like a host; no host has this name.
ERRANDS = "+errands"


def queue_of(host: str) -> Queue:
    """The queue on which one host is woken."""
    name = f"host.{host}"
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


def make_app(redis_url: str, *, socket_timeout_s: float = 5.0, publish_only: bool = False) -> Celery:
    """A Celery app that speaks JSON only. `publish_only`: it gives up at once instead of trying again."""
    app = Celery("eigenwerk", broker=redis_url, set_as_current=False)
    transport_options: dict[str, object] = {
        # Without timeouts a stopped Redis blocks its callers for ever.
        "socket_timeout": socket_timeout_s,
        "socket_connect_timeout": 2.0,
        "retry_on_timeout": False,
    }
    if publish_only:
        transport_options |= {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        event_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        # A hint is worthless once it was seen.
        task_acks_late=False,
        task_create_missing_queues=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        task_send_sent_event=False,
        task_publish_retry=False,
        broker_connection_timeout=2.0,
        broker_connection_retry_on_startup=True,
        # None: for ever.
        broker_connection_max_retries=None,
        broker_heartbeat=0,
        broker_pool_limit=1,
        broker_pool_acquire_timeout=5.0,
        broker_transport_options=transport_options,
    )
    return app
