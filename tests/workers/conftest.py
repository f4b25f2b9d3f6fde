from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded.stack import EmbeddedServices
from tests.infrastructure import _create, _drop
from tests.workers.harness import SCRIPTED, Harness, make_harness


@pytest.fixture
def harness(database_url: str, redis_url: str, object_settings: dict[str, str], tmp_path: Path) -> Iterator[Harness]:
    """The servers and a way to start schedulers and workers whose runner is scripted."""
    made = make_harness(database_url, redis_url, object_settings, tmp_path, runners=SCRIPTED)
    yield made
    made.close()


@pytest.fixture(scope="module")
def platform(
    services: EmbeddedServices,
    _template_url: str,
    object_settings: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Harness]:
    """A harness with one scheduler and one worker, `one`, that the tests of a module share."""
    name = "workers_module"
    url = _create(services.database_url, name, template="eigenwerk_template")
    made = make_harness(url, services.redis_url, object_settings, tmp_path_factory.mktemp("workers"), runners=SCRIPTED)
    made.start_scheduler()
    made.start_worker()
    made.wait_for_host()
    yield made
    made.close()
    _drop(services.database_url, name)
