from __future__ import annotations

from collections.abc import Iterator

import pytest

from storage.database import Database
from tests.workers.errands.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url, connections_max=8)
    yield made
    made.close()
