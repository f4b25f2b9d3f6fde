from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from storage.database import Database
from storage.settings import LeaseTimes
from workers.daemon.instance import HostNameTaken
from workers.inference.reconciler import Reconciler


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as database:
        yield database


def reconciler(database: Database) -> Reconciler:
    means: Any = SimpleNamespace(
        engines={}, tokens=Counter(), folders=SimpleNamespace(free_bytes=lambda: 1 << 30), installed=dict
    )
    return Reconciler(database, "one", 1 << 30, LeaseTimes(), means, warm=False)


def test_a_second_inference_worker_of_the_same_name_refuses_to_serve_until_the_first_has_stopped(
    database: Database,
) -> None:
    first, second = reconciler(database), reconciler(database)
    first.tick(0.0)
    with pytest.raises(HostNameTaken, match="EIGENWERK_HOST_NAME"):
        second.tick(0.0)
    first.tick(100.0)
    first.stop(101.0)
    first.close()
    second.tick(200.0)
