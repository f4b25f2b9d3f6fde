"""Brings the database to the newest schema, or back: `python -m storage.migrate [--to REVISION]`.

Safe to run from several hosts at once: an advisory lock lets one go first and the others find nothing to do.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import Connection

from storage.database import Database
from storage.reaching import database_problem
from storage.schema import revisions_that_work_with, scripts
from storage.tables import Base

#: Key of the advisory lock under which migrations run.
_MIGRATION_LOCK = 0x45_49_47_4D
ADMIN = "admin"


def upgrade(database_url: str, revision: str = "head") -> None:
    """Applies every migration up to `revision` that the database lacks, in one transaction."""
    _migrate(database_url, lambda config: command.upgrade(config, revision))


def downgrade(database_url: str, revision: str) -> None:
    """Goes back to `revision`: what later migrations added is lost, with its data. In one transaction."""
    _migrate(database_url, lambda config: command.downgrade(config, revision))


def _migrate(database_url: str, apply: Callable[[Config], None]) -> None:
    engine = create_engine(database_url)
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            apply(_config(connection))
            _record_compatibility(connection)
    finally:
        engine.dispose()


def _record_compatibility(connection: Connection) -> None:
    """Writes down which versions of the code can work with what the database is now."""
    if not inspect(connection).has_table("schema_compatibility"):
        return  # gone back to before it existed
    connection.execute(text("DELETE FROM schema_compatibility"))
    revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
    for working in revisions_that_work_with(str(revision)):
        connection.execute(text("INSERT INTO schema_compatibility VALUES (:revision)"), {"revision": working})


def differences(database_url: str) -> list[object]:
    """What separates the migrated database from the tables' definitions; empty when they are equal."""
    engine = create_engine(database_url)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            return list(compare_metadata(context, Base.metadata))
    finally:
        engine.dispose()


def add_migration(database_url: str, message: str, revision: str) -> None:
    """Writes a new migration from the difference between the database and the tables' definitions."""
    engine = create_engine(database_url)
    try:
        with engine.begin() as connection:
            command.revision(_config(connection), message=message, autogenerate=True, rev_id=revision)
    finally:
        engine.dispose()


def ensure_admin(database_url: str, token: str) -> None:
    """Makes the user `admin` and lets `token` speak for it."""
    database = Database(database_url)
    try:
        with database.unit_of_work() as work:
            user = work.users.ensure(ADMIN)
            work.users.add_token(user.id, token, scopes=("read", "write", "admin"))
    finally:
        database.close()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", scripts().dir)
    config.attributes["connection"] = connection
    return config


def main() -> None:
    parser = argparse.ArgumentParser(description="Bring the database to the newest schema.")
    parser.add_argument("--admin-token-file", type=Path, help="a file with the token of the user `admin`")
    parser.add_argument("--new", metavar="MESSAGE", help="write a new migration instead (for developers)")
    parser.add_argument("--revision", default="0001", help="the number of the new migration")
    parser.add_argument("--to", metavar="REVISION", help="go back to an earlier schema instead; newer data are lost")
    arguments = parser.parse_args()
    url = os.environ.get("EIGENWERK_DATABASE_URL")
    if not url:
        parser.error("EIGENWERK_DATABASE_URL is not set")
    if problem := database_problem(url):
        sys.exit(f"error: {problem}")
    if arguments.new:
        add_migration(url, arguments.new, arguments.revision)
        return
    if arguments.to:
        downgrade(url, arguments.to)
        return
    upgrade(url)
    if arguments.admin_token_file:
        ensure_admin(url, arguments.admin_token_file.read_text(encoding="utf-8").strip())


if __name__ == "__main__":
    main()
