"""Code refuses a schema that is not its own; one version newer is allowed where a migration says so."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence

import psycopg
import pytest
from sqlalchemy import create_engine, text

from storage.database import Database, DatabaseUnavailable, SchemaMismatch
from storage.migrate import downgrade, upgrade
from storage.schema import own_revision, revisions_that_work_with, scripts


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    yield made
    made.close()


def execute(url: str, *statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def become_newer(url: str, *, works_with: Sequence[str]) -> None:
    """As a later version's migration would leave the database."""
    execute(
        url,
        "UPDATE alembic_version SET version_num = '9999'",
        "DELETE FROM schema_compatibility",
        *(f"INSERT INTO schema_compatibility VALUES ('{revision}')" for revision in ("9999", *works_with)),  # noqa: S608
    )


def test_a_newer_schema_that_only_adds_is_worked_with(database_url: str, database: Database) -> None:
    become_newer(database_url, works_with=[own_revision()])
    database.check()


def test_a_newer_schema_that_breaks_this_code_is_refused_with_what_to_do(database_url: str, database: Database) -> None:
    become_newer(database_url, works_with=[])
    with pytest.raises(SchemaMismatch, match=rf"9999.* is newer .*--to {own_revision()}"):
        database.verify_schema()


def test_an_older_schema_is_refused_until_it_is_migrated(database_url: str, database: Database) -> None:
    previous = scripts().get_revision(own_revision()).down_revision
    assert isinstance(previous, str)
    downgrade(database_url, previous)
    with pytest.raises(SchemaMismatch, match=rf"{previous}.* is older .*storage\.migrate"):
        database.check()
    upgrade(database_url)
    database.check()


def test_an_empty_database_is_refused(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    with pytest.raises(SchemaMismatch, match="none"):
        database.check()
    database.close()


def test_a_connection_whose_check_fails_is_closed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[psycopg.Connection] = []

    def fails(connection: psycopg.Connection) -> None:
        checked.append(connection)
        raise psycopg.OperationalError("the server went away")

    monkeypatch.setattr("storage.database.check_schema", fails)
    with pytest.raises(DatabaseUnavailable):
        database.check()
    assert [connection.closed for connection in checked] == [True]


def test_a_server_that_is_away_is_no_other_version() -> None:
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    database.verify_schema()
    with pytest.raises(DatabaseUnavailable):
        database.check()
    database.close()


@pytest.mark.parametrize(
    "module", ["api", "workers.scheduler", "workers.errands", "workers.agent", "workers.inference"]
)
def test_every_process_ends_with_the_reason(
    module: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    become_newer(database_url, works_with=[])
    environment = {
        "EIGENWERK_DATABASE_URL": database_url,
        "EIGENWERK_REDIS_URL": "redis://127.0.0.1:1/0",
        "EIGENWERK_S3_ENDPOINT": "http://127.0.0.1:1",
        "EIGENWERK_S3_ACCESS_KEY": "none",
        "EIGENWERK_S3_SECRET_KEY": "none",
        "EIGENWERK_SCRATCH_DIR": str(tmp_path_factory.mktemp("scratch")),
        "EIGENWERK_SPOOL_DIR": str(tmp_path_factory.mktemp("spool")),
    }
    done = subprocess.run(
        [sys.executable, "-m", module], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "9999" in done.stderr
    assert "Traceback" not in done.stderr


def test_code_older_than_a_breaking_migration_does_not_work_with_what_follows_it() -> None:
    for script in scripts().walk_revisions():
        working = revisions_that_work_with(script.revision)
        assert working[0] == script.revision
        if not getattr(script.module, "works_with_previous_code", False):
            assert working == [script.revision]


def test_the_database_names_who_works_with_it(database: Database) -> None:
    with database.unit_of_work() as work:
        found = set(work.session.scalars(text("SELECT revision FROM schema_compatibility")))
    assert found == set(revisions_that_work_with(own_revision()))
    assert all(re.fullmatch(r"\d{4}[a-z]?", revision) for revision in found)
