"""figures: what has happened so far, the scheduler's ticks, and free bytes of hosts' scratch disks"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None
#: It adds a table, and columns with defaults. What older code does meanwhile is not counted.
works_with_previous_code = True


def upgrade() -> None:
    op.create_table(
        "tallies",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        *(sa.Column(name, sa.String(), server_default="", nullable=False) for name in ("kind", "state", "reason")),
        sa.Column("seconds_max", sa.Float(), nullable=True),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tallies")),
    )
    op.add_column("scheduler_leader", sa.Column("ticks", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("scheduler_leader", sa.Column("ticks_s", sa.Float(), server_default="0", nullable=False))
    op.add_column("hosts", sa.Column("scratch_free_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("hosts", "scratch_free_bytes")
    op.drop_column("scheduler_leader", "ticks_s")
    op.drop_column("scheduler_leader", "ticks")
    op.drop_table("tallies")
