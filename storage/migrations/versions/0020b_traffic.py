"""Versions that take a share of a deployment's traffic, and how deployments have answered"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020b"
down_revision = "0020"
branch_labels = None
depends_on = None
#: Older code would show a candidate as a deployment of its own.
works_with_previous_code = False


def upgrade() -> None:
    op.add_column("deployments", sa.Column("traffic_percent", sa.Integer(), nullable=True))
    op.create_table(
        "answer_counts",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("failed", sa.Boolean(), nullable=False),
        sa.Column("seconds_max", sa.Float(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owners.id"], name=op.f("fk_answer_counts_owner_id_owners"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            *("owner_id", "deployment", "model", "failed", "seconds_max"), name=op.f("pk_answer_counts")
        ),
    )


def downgrade() -> None:
    op.drop_table("answer_counts")
    op.execute("DELETE FROM deployments WHERE traffic_percent IS NOT NULL")
    op.drop_column("deployments", "traffic_percent")
