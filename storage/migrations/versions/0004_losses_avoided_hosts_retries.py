"""losses of hosts apart from crashes, avoided hosts, retries, swept attempts, workers' instances and clocks"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0002"
branch_labels = None
depends_on = None

works_with_previous_code = True

_UNSWEPT = "fence > swept_fence AND state IN ('succeeded', 'failed', 'cancelled')"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("host_losses", sa.Integer(), server_default="0", nullable=False))
    op.add_column(
        "jobs",
        sa.Column("avoid_hosts", postgresql.ARRAY(sa.TEXT()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("jobs", sa.Column("avoid_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("retry_of", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_jobs_retry_of_jobs"), "jobs", "jobs", ["retry_of"], ["id"])
    op.create_index(op.f("ix_jobs_retry_of"), "jobs", ["retry_of"])
    op.add_column("jobs", sa.Column("swept_fence", sa.Integer(), server_default="0", nullable=False))
    # An only attempt that brought the result left nothing else.
    op.execute("UPDATE jobs SET swept_fence = fence WHERE state = 'succeeded' AND fence = 1")
    op.create_index("ix_jobs_unswept", "jobs", ["submitted_order"], postgresql_where=sa.text(_UNSWEPT))
    op.add_column("hosts", sa.Column("reason", sa.String(), nullable=True))
    op.add_column("hosts", sa.Column("message", sa.String(), nullable=True))
    op.add_column("hosts", sa.Column("clock_offset_s", sa.Float(), nullable=True))
    op.create_table(
        "host_instances",
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("instance", sa.Uuid(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("host", "role", name=op.f("pk_host_instances")),
    )


def downgrade() -> None:
    op.drop_table("host_instances")
    for name in ("clock_offset_s", "message", "reason"):
        op.drop_column("hosts", name)
    op.drop_index("ix_jobs_unswept", "jobs")
    op.drop_column("jobs", "swept_fence")
    op.drop_index(op.f("ix_jobs_retry_of"), "jobs")
    op.drop_constraint(op.f("fk_jobs_retry_of_jobs"), "jobs", type_="foreignkey")
    for name in ("retry_of", "avoid_until", "avoid_hosts", "host_losses"):
        op.drop_column("jobs", name)
