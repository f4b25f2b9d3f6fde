"""deleting: garbage of the object store, and the highest number among deleted versions"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None

works_with_previous_code = True

_NUMBERED = ("models", "datasets")


def upgrade() -> None:
    op.create_table(
        "garbage",
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_garbage")),
    )
    op.create_index("ix_garbage_due_at", "garbage", ["due_at"])
    for table in _NUMBERED:
        op.add_column(table, sa.Column("version_deleted_max", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    for table in _NUMBERED:
        op.drop_column(table, "version_deleted_max")
    op.drop_table("garbage")
