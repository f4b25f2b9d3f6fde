"""Deployments on several hosts, and hosts that are drained: the table, and what is counted of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest
from sqlalchemy import update

from jobspecs.rights import Reach
from storage.database import Database, UnitOfWork
from storage.repositories.serving.deployments import SPREAD_S
from storage.tables import DeploymentRow
from tests.storage.test_deployments import claim, want

READY = {"state": "ready", "endpoint_key": "k"}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def want_shares(work: UnitOfWork, count: int) -> list[DeploymentRow]:
    first = want(work)
    for number in range(1, count):
        work.deployments.want(
            first.owner_id,
            first.name,
            share=number,
            model_version_id=first.model_version_id,
            engine=first.engine,
            replicas=1,
            memory_bytes=first.memory_bytes,
        )
    return list(work.deployments.shares(first))


def later(work: UnitOfWork, seconds: float) -> None:
    work.session.execute(update(DeploymentRow).values(updated_at=DeploymentRow.updated_at - timedelta(seconds=seconds)))


def share_of(row: DeploymentRow | None) -> int | None:
    return None if row is None else row.share


def test_hosts_take_a_share_each_and_a_second_one_only_when_nobody_else_does(database: Database) -> None:
    with database.unit_of_work() as work:
        want_shares(work, 3)
    with database.unit_of_work() as work:
        assert [share_of(claim(work, host)) for host in ("one", "one", "two")] == [0, None, 1]
        assert share_of(claim(work, "two")) is None
        later(work, SPREAD_S + 1)
        assert share_of(claim(work, "two")) == 2


def test_shares_that_are_no_longer_wanted_end_and_the_first_speaks_for_the_deployment(database: Database) -> None:
    with database.unit_of_work() as work:
        first, second, _ = want_shares(work, 3)
        reach = Reach.of(first.owner_id)
    with database.unit_of_work() as work:
        claim(work, "one")
        claim(work, "two")
        assert work.deployments.report(second.id, "two", 1, endpoint="http://two", **READY)
        assert work.deployments.count_by_state() == {"ready": 1}
        assert [row.name for row in work.deployments.list(reach)] == [first.name]
        assert work.deployments.unwant(reach, first.name, shares_from=1)
        assert [(row.share, row.wanted) for row in work.deployments.find_shares(reach, first.name)] == [
            *((0, True), (1, False)),
        ]
        assert work.deployments.remove(second.id, "two", 2)


def test_what_a_drained_host_serves_is_answered_there_until_another_host_does(database: Database) -> None:
    with database.unit_of_work() as work:
        row = want(work)
    with database.unit_of_work() as work:
        claim(work, "one")
        work.deployments.report(row.id, "one", 1, endpoint="http://one", **READY)
        work.deployments.offer("one")
        assert list(work.deployments.moving("one")) == [row.id]
        taken = claim(work, "two")
        assert taken is not None
        assert (taken.host, taken.endpoint, taken.endpoint_host) == ("two", "http://one", "one")
        work.deployments.report(row.id, "two", 1, state="starting")
        work.session.refresh(taken)
        assert (taken.endpoint, taken.endpoint_key, taken.state) == ("http://one", "k", "starting")
        work.deployments.report(row.id, "two", 1, endpoint="http://two", **READY)
        work.session.refresh(taken)
        assert (taken.endpoint, taken.endpoint_host, taken.moving_from) == ("http://two", "two", None)
        assert not work.deployments.moving("one")


def test_a_host_that_is_used_again_keeps_what_nobody_took_and_one_that_stops_answers_for_nothing(
    database: Database,
) -> None:
    with database.unit_of_work() as work:
        row = want(work)
    with database.unit_of_work() as work:
        claim(work, "one")
        work.deployments.report(row.id, "one", 1, endpoint="http://one", **READY)
        work.deployments.offer("one")
        again = claim(work, "one")
        assert again is not None
        assert (again.host, again.endpoint, again.moving_from, again.state) == ("one", "http://one", None, "ready")
        work.deployments.offer("one")
        work.deployments.release("one")
        work.session.refresh(again)
        assert (again.host, again.endpoint, again.moving_from) == (None, None, None)


def test_what_starts_on_a_host_when_it_is_drained_begins_elsewhere(database: Database) -> None:
    with database.unit_of_work() as work:
        want(work)
    with database.unit_of_work() as work:
        claim(work, "one")
        work.deployments.offer("one")
        assert not work.deployments.moving("one")
        assert (claim(work, "two") or row_missing()).host == "two"


def row_missing() -> DeploymentRow:
    raise AssertionError("nobody claimed it")
