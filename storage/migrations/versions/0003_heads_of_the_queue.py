"""heads of the queue: time limits, times of queueing and assignment, indexes for every look, decisions"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0006"
branch_labels = None
depends_on = None

works_with_previous_code = True

_TIME = sa.DateTime(timezone=True)
_NOW = sa.text("clock_timestamp()")
_QUEUED, _SUCCEEDED = sa.text("state = 'queued'"), sa.text("state = 'succeeded'")
_AVOIDING = sa.text("state = 'queued' AND avoid_until IS NOT NULL")
_INDEXES = ("state_order", "owner_state_order", "speed_of_model", "speed", "active", "queued_at", "avoiding", "heads")
_DIGEST = sa.text("(inputs #>> '{model,digest}'::text[])")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("max_runtime_s", sa.Float(), server_default=sa.text("86400"), nullable=False))
    op.add_column("jobs", sa.Column("queued_at", _TIME, server_default=_NOW, nullable=False))
    op.add_column("jobs", sa.Column("assigned_at", _TIME, nullable=True))
    op.execute(
        "UPDATE jobs SET max_runtime_s = coalesce("
        "  rtrim(spec #>> '{resources,max_runtime}', 's')::double precision, max_runtime_s), "
        "queued_at = coalesce((SELECT max(at) FROM job_transitions AS t WHERE t.job_id = jobs.id "
        "  AND t.state = 'queued'), created_at), "
        "assigned_at = (SELECT max(at) FROM job_transitions AS t WHERE t.job_id = jobs.id AND t.state = 'assigned')"
    )
    op.drop_index("ix_jobs_queue", "jobs")
    op.create_index("ix_jobs_queue", "jobs", [sa.text("priority DESC"), "submitted_order"], postgresql_where=_QUEUED)
    op.create_index(
        "ix_jobs_heads",
        "jobs",
        ["priority", "owner_id", "gpus", "slots", "memory_bytes", "max_runtime_s", "submitted_order"],
        postgresql_where=_QUEUED,
    )
    op.create_index(
        "ix_jobs_avoiding", "jobs", [sa.text("priority DESC"), "submitted_order"], postgresql_where=_AVOIDING
    )
    op.create_index("ix_jobs_queued_at", "jobs", ["queued_at"], postgresql_where=_QUEUED)
    op.create_index("ix_jobs_active", "jobs", ["host", "submitted_order"], postgresql_where=sa.text("host IS NOT NULL"))
    op.create_index("ix_jobs_speed", "jobs", ["kind", "gpus", "submitted_order"], postgresql_where=_SUCCEEDED)
    op.create_index(
        "ix_jobs_speed_of_model", "jobs", ["kind", "gpus", _DIGEST, "submitted_order"], postgresql_where=_SUCCEEDED
    )
    op.create_index("ix_jobs_owner_state_order", "jobs", ["owner_id", "state", "submitted_order"])
    op.create_index("ix_jobs_state_order", "jobs", ["state", "submitted_order"])
    op.create_index("ix_outbox_sent", "outbox", ["sent_at"], postgresql_where=sa.text("sent_at IS NOT NULL"))
    op.create_table(
        "decisions",
        sa.Column("at", _TIME, server_default=_NOW, nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("at", name=op.f("pk_decisions")),
    )


def downgrade() -> None:
    op.drop_table("decisions")
    op.drop_index("ix_outbox_sent", "outbox")
    for name in (*_INDEXES, "queue"):
        op.drop_index(f"ix_jobs_{name}", "jobs")
    op.create_index("ix_jobs_queue", "jobs", ["priority", "submitted_order"], postgresql_where=_QUEUED)
    for name in ("assigned_at", "queued_at", "max_runtime_s"):
        op.drop_column("jobs", name)
