"""Deployments that sleep when nobody asks them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0019"
down_revision = "0020b"
branch_labels = None
depends_on = None
#: Older code would claim what sleeps, and answer for it.
works_with_previous_code = True

_TIMES = ("last_used_at", "woken_at", "claimed_at")


def upgrade() -> None:
    op.add_column("deployments", sa.Column("idle_after_s", sa.Integer(), nullable=True))
    op.add_column("deployments", sa.Column("sleeping", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    for name in _TIMES:
        op.add_column("deployments", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "deployments", sa.Column("start_seconds", ARRAY(sa.Float()), server_default=sa.text("'{}'"), nullable=False)
    )


def downgrade() -> None:
    op.execute("UPDATE deployments SET state = 'pending' WHERE state = 'asleep'")
    for name in ("idle_after_s", "sleeping", *_TIMES, "start_seconds"):
        op.drop_column("deployments", name)
