"""The embedded servers with a scheduler and a worker under the usual lease times, for figures about whole jobs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from deploy.embedded.stack import EmbeddedServices
from storage.migrate import upgrade
from tests.workers.harness import SHORT_TIMES, Harness, make_harness


@contextmanager
def servers() -> Iterator[tuple[EmbeddedServices, Harness]]:
    """PostgreSQL (durable, as in production), Redis and S3 with the newest schema; nothing else runs yet."""
    with tempfile.TemporaryDirectory(prefix="eigenwerk-bench-") as folder, ExitStack() as stack:
        services = EmbeddedServices(Path(folder) / "home")
        # As root PostgreSQL's data lies outside the folder.
        stack.callback(services.remove_data)
        stack.enter_context(services)
        upgrade(services.database_url)
        access = asdict(services.object_access)
        access["endpoint_url"] = services.object_access.endpoint
        harness = make_harness(services.database_url, services.redis_url, access, Path(folder))
        for name in SHORT_TIMES:
            del harness.environment[name]
        try:
            yield services, harness
        finally:
            harness.close()


@contextmanager
def platform() -> Iterator[Harness]:
    """`servers` with a scheduler and a worker whose zygote is warm."""
    with servers() as (_, harness):
        harness.start_scheduler()
        harness.start_worker()
        harness.wait_for_host(seconds=120)
        yield harness
