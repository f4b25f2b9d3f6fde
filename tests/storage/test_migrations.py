from __future__ import annotations

from storage.database import Database
from storage.migrate import differences, ensure_admin, upgrade


def test_the_migrations_give_exactly_the_tables(database_url: str) -> None:
    upgrade(database_url)
    assert differences(database_url) == []


def test_upgrading_twice_changes_nothing(database_url: str) -> None:
    upgrade(database_url)
    upgrade(database_url)


def test_the_admin_token_is_stored_as_its_hash_only(database_url: str) -> None:
    upgrade(database_url)
    ensure_admin(database_url, "ew_secret")
    database = Database(database_url)
    with database.unit_of_work() as work:
        row = work.users.authenticate("ew_secret")
        assert row is not None
        assert row.user.name == "admin"
        assert "secret" not in row.sha256
        assert work.users.authenticate("ew_other") is None
    database.close()
