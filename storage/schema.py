"""Which database schemas this code can work with.

The rule is expand, then contract: code works with the schema of its own newest migration, and with newer ones as long
as each of them only adds what older code may ignore. A migration says so with `works_with_previous_code = True`;
without it, it is taken to break older code. Which code may work with the database stands in the database itself
(`schema_compatibility`), as old code can't know what came after it.
"""

from __future__ import annotations

import contextlib
from functools import cache
from pathlib import Path

import psycopg
from alembic.script import ScriptDirectory

from storage.database_errors import SchemaMismatch

_MIGRATIONS = Path(__file__).parent / "migrations"


@cache
def scripts() -> ScriptDirectory:
    """The migrations that this code knows."""
    return ScriptDirectory(str(_MIGRATIONS))


@cache
def own_revision() -> str:
    """The newest migration that this code knows."""
    head = scripts().get_current_head()
    if head is None:
        raise RuntimeError("this installation has no migrations; install it again")
    return head


def revisions_that_work_with(revision: str) -> list[str]:
    """The newest migrations of those versions of the code that can work with a database at `revision`."""
    working = []
    script = scripts().get_revision(revision)
    while script is not None:
        working.append(script.revision)
        previous = script.down_revision
        if not isinstance(previous, str) or not getattr(script.module, "works_with_previous_code", False):
            break
        script = scripts().get_revision(previous)
    return working


def check_schema(connection: psycopg.Connection) -> None:
    """Raises SchemaMismatch unless this code can work with the database's schema."""
    found = None
    working: list[tuple[str]] = []
    # The second table is younger than the first.
    with contextlib.suppress(psycopg.errors.UndefinedTable):
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        working = connection.execute("SELECT revision FROM schema_compatibility").fetchall()
    if (own_revision(),) in working:
        return
    revision = found[0] if found else "none"
    if found is None or revision in {script.revision for script in scripts().walk_revisions()}:
        raise SchemaMismatch(
            f"The database's schema ({revision}) is older than the one that this version of Eigenwerk needs "
            f"({own_revision()}). Bring it up to date with `python -m storage.migrate`; `eigenwerk up` does so itself."
        )
    raise SchemaMismatch(
        f"The database's schema ({revision}) is newer than this version of Eigenwerk ({own_revision()}) can work with. "
        f"Install the newer version here, too; or, with the newer version, go back: "
        f"`python -m storage.migrate --to {own_revision()}`."
    )
