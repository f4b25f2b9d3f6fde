from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from uuid import UUID

import pytest
from sqlalchemy import text

from scheduling.decisions import Host, Resources, Running, Snapshot, Waiting, decide
from storage.database import Database
from tests.workers.harness import Harness
from workers.scheduler.decision_log import EVERY_S, KEEP_S, DecisionLog
from workers.scheduler.loop import tick

WAITING = [Waiting(UUID(int=n), UUID(int=0), 0, n, Resources(1, 1), 60.0) for n in range(1, 4)]
SNAPSHOT = Snapshot(WAITING, [Host("one", Resources(2, 2), (Running(Resources(1, 1), 5.5),))])


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def kept(database: Database) -> int:
    with database.unit_of_work() as work:
        return len(work.decisions.newest(limit=100))


def test_one_decision_a_minute_is_kept_where_anything_waited(database: Database) -> None:
    times = iter([0.0, EVERY_S - 1, EVERY_S, 3 * EVERY_S])
    log = DecisionLog(database, clock=lambda: next(times))
    for expected in (1, 1, 2):
        log.keep(SNAPSHOT, decide(SNAPSHOT))
        assert kept(database) == expected
    log.keep(Snapshot([], SNAPSHOT.hosts), [])
    assert kept(database) == 2


def test_decisions_are_forgotten_after_a_day(database: Database) -> None:
    with database.unit_of_work() as work:
        work.decisions.keep(SNAPSHOT, [], keep_s=KEEP_S)
        work.session.execute(text("UPDATE decisions SET at = at - interval '25 hours'"))
    with database.unit_of_work() as work:
        work.decisions.keep(SNAPSHOT, [], keep_s=KEEP_S)
    assert kept(database) == 1


def test_a_tick_s_decision_can_be_replayed_later(harness: Harness) -> None:
    with harness.database.unit_of_work() as work:
        work.hosts.announce("one", slots=2, memory_bytes=100, gpus=0, accepting=True)
    jobs = [harness.submit("plain", memory_bytes=40) for _ in range(3)]
    assert tick(harness.database, lease_s=60, decisions=DecisionLog(harness.database)) == 2
    with harness.database.unit_of_work() as work:
        ((snapshot, actions),) = work.decisions.newest()
    assert [action.job_id for action in actions] == jobs[:2]
    assert decide(snapshot) == actions
