from __future__ import annotations

from itertools import pairwise
from uuid import uuid4

import psycopg

from jobspecs.rights import Reach
from storage.database import Database
from storage.migrate import differences, downgrade, ensure_admin, upgrade
from storage.schema import scripts


def test_the_migrations_give_exactly_the_tables(database_url: str) -> None:
    upgrade(database_url)
    assert differences(database_url) == []


def test_upgrading_twice_changes_nothing(database_url: str) -> None:
    upgrade(database_url)
    upgrade(database_url)


def test_owners_keep_the_ids_and_the_things_of_users_up_and_down(empty_database_url: str) -> None:
    upgrade(empty_database_url, "0002")
    ada, data = uuid4(), uuid4()
    with psycopg.connect(empty_database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("INSERT INTO users (id, name) VALUES (%s, 'ada')", (ada,))
        connection.execute("INSERT INTO datasets (id, owner_id, name) VALUES (%s, %s, 'rows')", (data, ada))
        connection.execute(
            "INSERT INTO tokens (id, user_id, sha256, hint, scopes) VALUES (%s, %s, 'x', 'x', '{}')", (data, ada)
        )
        upgrade(empty_database_url)
        assert connection.execute("SELECT id, kind, name FROM owners").fetchall() == [(ada, "user", "ada")]
        downgrade(empty_database_url, "0002")
        assert connection.execute("SELECT id, name FROM users").fetchall() == [(ada, "ada")]
        owners = connection.execute("SELECT owner_id FROM datasets UNION SELECT user_id FROM tokens").fetchall()
        assert owners == [(ada,)]
    upgrade(empty_database_url)
    assert differences(empty_database_url) == []


def test_every_migration_can_be_undone_and_done_again_with_data_in_the_tables(database_url: str) -> None:
    database = Database(database_url)
    with database.unit_of_work() as work:
        user = work.users.ensure("somebody")
        work.users.add_token(user.id, "ew_secret", scopes=("read",))
        work.hosts.announce("one", slots=1, memory_bytes=1, gpus=0, accepting=True)
        work.jobs.submit(
            user.id,
            actor="user:somebody",
            spec={"kind": "train-classifier", "name": "kept", "priority": 0, "resources": {"max_runtime": "3600s"}},
            inputs={},
            slots=1,
            memory_bytes=1,
            gpus=0,
            max_runtime_s=3600,
            request_sha256="0" * 64,
        )
    database.close()
    chain = [script.revision for script in scripts().walk_revisions()]
    for newer, revision in pairwise(chain):
        downgrade(database_url, revision)
        # One step back and on again, as somebody does whose upgrade failed.
        upgrade(database_url, newer)
        downgrade(database_url, revision)
    upgrade(database_url)
    assert differences(database_url) == []
    database = Database(database_url)
    with database.unit_of_work() as work:
        row = work.users.authenticate("ew_secret")
        assert row is not None
        assert [(job.name, job.max_runtime_s) for job in work.jobs.list(Reach.of(row.user.id))] == [("kept", 3600)]
    database.close()


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
