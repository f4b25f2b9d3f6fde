"""schedules and their runs"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0023b"
down_revision = "0019b"
branch_labels = None
depends_on = None
#: It adds tables; older code submits nothing by schedule.
works_with_previous_code = True


def upgrade() -> None:
    moment, now = sa.DateTime(timezone=True), sa.text("clock_timestamp()")
    op.create_table(
        "schedules",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("cron", sa.String(), nullable=False),
        sa.Column("time_zone", sa.String(), nullable=False),
        sa.Column("missed", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("steps", JSONB(), nullable=False),
        sa.Column("next_at", moment, nullable=False),
        sa.Column("paused_at", moment, nullable=True),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.CheckConstraint("missed IN ('skip', 'once', 'all')", name=op.f("ck_schedules_missed_known")),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owners.id"], name=op.f("fk_schedules_owner_id_owners"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("owner_id", "name", name=op.f("uq_schedules_owner_id_name")),
    )
    op.create_index("ix_schedules_due", "schedules", ["next_at"], postgresql_where=sa.text("paused_at IS NULL"))
    op.create_table(
        "schedule_runs",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("due_at", moment, nullable=False),
        sa.Column("ran_at", moment, server_default=now, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("pipeline_id", sa.Uuid(), nullable=True),
        sa.Column("refused", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["schedule_id"], ["schedules.id"], name=op.f("fk_schedule_runs_schedule_id_schedules"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_schedule_runs_job_id_jobs"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"], ["pipelines.id"], name=op.f("fk_schedule_runs_pipeline_id_pipelines"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("schedule_id", "due_at", name=op.f("pk_schedule_runs")),
    )
    op.create_index("ix_schedule_runs_job_id", "schedule_runs", ["job_id"])
    op.create_index("ix_schedule_runs_pipeline_id", "schedule_runs", ["pipeline_id"])


def downgrade() -> None:
    op.drop_table("schedule_runs")
    op.drop_table("schedules")
