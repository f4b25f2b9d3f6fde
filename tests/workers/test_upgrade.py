"""Two versions of the platform on one database, during an upgrade and on the way back."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import storage
from jobspecs.lifecycle import JobState
from storage.schema import own_revision
from tests.workers.harness import Harness

_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{own}"
branch_labels = None
depends_on = None

works_with_previous_code = {works}


def upgrade():
    op.add_column("jobs", sa.Column("later", sa.String(), nullable=True))


def downgrade():
    op.drop_column("jobs", "later")
"""


@dataclass(frozen=True)
class NewerVersion:
    """The platform with one migration more: `folder` has a `storage` of its own, found before the usual one."""

    folder: Path
    environment: dict[str, str]

    @property
    def wrapper(self) -> Sequence[str]:
        """Runs a command as this version."""
        return ("env", "-C", str(self.folder), f"PYTHONPATH={Path(storage.__file__).parents[1]}")

    def migrate(self, *arguments: str) -> None:
        command = [*self.wrapper, sys.executable, "-m", "storage.migrate", *arguments]
        subprocess.run(command, env={"PATH": "/usr/bin:/bin", **self.environment}, check=True, timeout=60)


def newer_version(harness: Harness, folder: Path, *, works_with_previous_code: bool) -> NewerVersion:
    shutil.copytree(Path(storage.__file__).parent, folder / "storage", ignore=shutil.ignore_patterns("__pycache__"))
    text = _MIGRATION.format(own=own_revision(), works=works_with_previous_code)
    (folder / "storage" / "migrations" / "versions" / "9999_later.py").write_text(text)
    return NewerVersion(folder, harness.environment)


def test_old_and_new_workers_work_side_by_side_and_the_old_ones_after_going_back(
    harness: Harness, tmp_path: Path
) -> None:
    newer = newer_version(harness, tmp_path / "newer", works_with_previous_code=True)
    one_slot = {"EIGENWERK_SLOTS": "1"}
    harness.start_scheduler()
    old = harness.start_worker("old", **one_slot)
    harness.wait_for_host("old")
    newer.migrate()
    new = harness.start_worker("new", wrapper=newer.wrapper, **one_slot)
    harness.wait_for_host("new")

    # With one slot each, both take part.
    held = [harness.submit(f"steps.{number}") for number in range(2)]
    for job_id in held:
        harness.wait_for_step(job_id, 10)
    assert {harness.job(job_id).host for job_id in held} == {"old", "new"}
    for job_id in held:
        harness.cancel(job_id)
        assert harness.wait(job_id).state == JobState.cancelled
    for job_id in [harness.submit(f"plain.{number}") for number in range(3)]:
        assert harness.wait(job_id).state == JobState.succeeded

    # One version back: the new worker ends, the schema follows, and the old one never stopped.
    assert harness.stop(new) == 0
    newer.migrate("--to", own_revision())
    assert harness.wait(harness.submit("plain.back")).state == JobState.succeeded
    assert old.poll() is None
    refused = harness.start_worker("new", wrapper=newer.wrapper)
    assert refused.wait(60) == 1
    harness.check_promise()


def test_an_old_worker_does_not_start_on_a_schema_that_breaks_it(
    harness: Harness, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    newer = newer_version(harness, tmp_path / "newer", works_with_previous_code=False)
    newer.migrate()
    assert harness.start_worker("old").wait(60) == 1
    assert harness.start_scheduler().wait(60) == 1
    assert capfd.readouterr().err.count("The database's schema (9999) is newer") == 2
