"""batches of requests"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0026c"
down_revision = "0026b"
branch_labels = None
depends_on = None
#: It adds tables that older code does not read.
works_with_previous_code = True

_UNENDED = "'validating', 'in_progress', 'finalizing', 'cancelling'"
_STATES = "'validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', 'cancelled'"


def upgrade() -> None:
    moment, now, nothing = sa.DateTime(timezone=True), sa.text("clock_timestamp()"), sa.text("'{}'")
    op.create_table(
        "batches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("input_version_id", sa.Uuid(), nullable=False),
        sa.Column("output_version_id", sa.Uuid(), nullable=True),
        sa.Column("error_version_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.String(), server_default="validating", nullable=False),
        sa.Column("errors", JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("metadata", JSONB(), server_default=nothing, nullable=False),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("requests", sa.Integer(), server_default="0", nullable=False),
        sa.Column("completed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("times", JSONB(), server_default=nothing, nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", moment, nullable=True),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.CheckConstraint(f"state IN ({_STATES})", name=op.f("ck_batches_state_known")),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owners.id"], name=op.f("fk_batches_owner_id_owners"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    op.create_index("ix_batches_owner_id", "batches", ["owner_id", "created_at"])
    unended = sa.text(f"state IN ({_UNENDED})")
    op.create_index("ix_batches_unended", "batches", ["created_at"], postgresql_where=unended)
    op.create_table(
        "batch_answers",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Boolean(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.id"], name=op.f("fk_batch_answers_batch_id_batches"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("batch_id", "line", name=op.f("pk_batch_answers")),
    )


def downgrade() -> None:
    op.drop_table("batch_answers")
    op.drop_table("batches")
