"""The warm process in which foreign files are read, with the tasks of the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from corpus.confinement.confinement import Confinement


@pytest.fixture(scope="session")
def confinement() -> Iterator[Confinement]:
    made = Confinement("api.confined_tasks:TASKS")
    yield made
    made.close()
