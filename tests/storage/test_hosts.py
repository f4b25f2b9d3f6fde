from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import pytest

from storage.database import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as database:
        yield database


def hold(database: Database, instance: object, *, silent_s: float = 60.0, role: str = "jobs") -> float | None:
    with database.unit_of_work() as work:
        return work.hosts.hold("one", role, instance, silent_s=silent_s)  # type: ignore[arg-type]


def test_one_instance_holds_a_hosts_name_and_another_waits_until_it_is_silent(database: Database) -> None:
    first, second = uuid4(), uuid4()
    assert hold(database, first) is None
    age_s = hold(database, second)
    assert age_s is not None
    assert 0 <= age_s < 60
    assert hold(database, first) is None
    assert hold(database, second, silent_s=0.0) is None
    assert hold(database, first) is not None


def test_a_name_that_was_given_back_is_free_at_once(database: Database) -> None:
    first, second = uuid4(), uuid4()
    assert hold(database, first) is None
    with database.unit_of_work() as work:
        work.hosts.release("one", "jobs", second)
    assert hold(database, second) is not None, "only its holder gives it back"
    with database.unit_of_work() as work:
        work.hosts.release("one", "jobs", first)
    assert hold(database, second) is None


def test_jobs_and_deployments_of_one_host_are_worked_on_by_two_processes(database: Database) -> None:
    assert hold(database, uuid4(), role="jobs") is None
    assert hold(database, uuid4(), role="serving") is None
