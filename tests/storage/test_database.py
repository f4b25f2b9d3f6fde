from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import func, select, text

from storage.database import Database, DatabaseUnavailable


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def test_an_error_in_the_block_rolls_everything_back(database: Database) -> None:
    with pytest.raises(RuntimeError), database.unit_of_work() as work:
        work.users.ensure("ada")
        raise RuntimeError
    with database.unit_of_work() as work:
        assert not work.owners.is_taken("ada")


def test_what_only_reads_has_no_transaction_and_can_write_nothing(database: Database) -> None:
    with database.unit_of_work() as work:
        work.users.ensure("ada")
    in_transaction = text("datname = current_database() AND state LIKE 'idle in%'")
    transactions = select(func.count()).select_from(text("pg_stat_activity")).where(in_transaction)
    with database.reading() as work:
        (ada,) = work.users.list()
        assert work.session.scalar(transactions) == 0
        with database.unit_of_work() as other:
            other.users.ensure("bob")
        assert work.owners.is_taken("bob"), "each query sees what is committed by then"
        with pytest.raises(RuntimeError, match="Only a unit of work"):
            work.users.ensure("cleo")
        with pytest.raises(RuntimeError, match="Only a unit of work"):
            work.users.revoke_tokens(ada.id)
        ada.name = "cleo"
        with pytest.raises(RuntimeError, match="Only a unit of work"):
            work.session.flush()
    with database.reading() as work:
        assert not work.owners.is_taken("cleo")


def test_a_client_that_freezes_in_a_transaction_loses_its_locks(database: Database) -> None:
    with database.unit_of_work() as work:
        limits = {
            name: work.session.scalar(text(f"SHOW {name}"))
            for name in ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")
        }
        assert limits == {
            "idle_in_transaction_session_timeout": "30s",
            "lock_timeout": "10s",
            "statement_timeout": "30s",
        }
    with pytest.raises(DatabaseUnavailable), database.unit_of_work() as work:
        work.session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '20ms'"))
        # The server's patience, not ours: there is no clock to inject.
        time.sleep(0.2)
        work.users.ensure("ada")


def test_a_lock_that_is_not_given_counts_as_unavailable(database: Database) -> None:
    with database.unit_of_work() as holder:
        holder.users.ensure("ada")
        with pytest.raises(DatabaseUnavailable), database.unit_of_work() as work:
            work.session.execute(text("SET LOCAL lock_timeout = '20ms'"))
            work.users.ensure("ada")


def test_a_server_that_is_not_there_is_unavailable_at_once() -> None:
    with closing(Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")) as absent:
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            absent.check()
        with pytest.raises(DatabaseUnavailable), absent.listen():
            pytest.fail("nobody listens")
