"""One scheduler leads; one that hangs loses its lock to another."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import text

from storage.database import Database, DatabaseUnavailable


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    yield made
    made.close()


def age(database: Database, seconds: float) -> None:
    with database.unit_of_work() as work:
        work.session.execute(
            text("UPDATE scheduler_leader SET beat_at = beat_at - make_interval(secs => :s)"), {"s": seconds}
        )


def test_a_leader_that_gives_its_heartbeat_is_left_alone(database: Database) -> None:
    with database.leadership("a:1", silent_s=10) as first, database.leadership("b:2", silent_s=10) as second:
        assert first.acquire()
        age(database, 60)
        first.beat()
        assert not second.acquire()
        assert not second.depose_silent()
        first.beat()


def test_a_silent_leader_loses_its_connection_and_another_leads(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable), database.leadership("a:1", silent_s=10) as first:
        assert first.acquire()
        age(database, 11)
        with database.leadership("b:2", silent_s=10) as second:
            assert not second.acquire()
            assert second.depose_silent()
            while not second.acquire():
                pass  # the server ends the connection in its own time
            # The new leader is not silent, though the old one was.
            assert not second.depose_silent()
            with database.unit_of_work() as work:
                leader = work.leader.newest()
            assert leader is not None
            assert (leader.name, leader.silent_for_s < 10) == ("b:2", True)
        first.beat()


def test_who_leads_another_database_is_no_business_of_this_one(database: Database, empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url.replace("+psycopg", ""), autocommit=True) as elsewhere:
        elsewhere.execute("SELECT pg_advisory_lock(%s)", (0x45494745,))
        with database.leadership("a:1", silent_s=10) as leadership:
            assert leadership.acquire()
            age(database, 60)
        with database.leadership("b:2", silent_s=10) as other:
            other.depose_silent()
        elsewhere.execute("SELECT 1")


def test_both_ends_give_up_a_connection_whose_other_end_has_gone(database: Database) -> None:
    expected = {"idle": "10", "interval": "5", "count": "3"}
    with database.unit_of_work() as work:
        for name, value in expected.items():
            assert work.session.scalar(text(f"SHOW tcp_keepalives_{name}")) == value
        assert work.session.scalar(text("SHOW tcp_user_timeout")) == "15000"
    with database.leadership("a:1", silent_s=10) as leadership:
        row = leadership.connection.execute("SHOW tcp_keepalives_idle").fetchone()
        assert row == ("10",)
        assert leadership.connection.info.get_parameters()["keepalives_idle"] == "10"
