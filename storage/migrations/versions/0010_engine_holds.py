"""What engines still use on a host after less is wanted of their deployment"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
#: It adds a table. What older code makes smaller meanwhile is free at once, as before.
works_with_previous_code = True


def upgrade() -> None:
    op.create_table(
        "engine_holds",
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("gpu_ids", ARRAY(sa.TEXT()), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("host", "deployment_id", name=op.f("pk_engine_holds")),
    )


def downgrade() -> None:
    op.drop_table("engine_holds")
