"""sweeps and their trials"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0025"
down_revision = "0029"
branch_labels = None
depends_on = None
#: It adds tables that nobody else reads.
works_with_previous_code = True

_SWEEP_STATES = "'running', 'cancelling', 'succeeded', 'failed', 'cancelled'"
_TRIAL_STATES = "'running', 'stopped', 'succeeded', 'failed', 'cancelled'"


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("submitted_order", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("plan", JSONB(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("request_sha256", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("winner", sa.Integer(), nullable=True),
        sa.Column("due", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("look_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(f"state IN ({_SWEEP_STATES})", name=op.f("ck_sweeps_state_known")),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owners.id"], name=op.f("fk_sweeps_owner_id_owners"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
        sa.UniqueConstraint("submitted_order", name=op.f("uq_sweeps_submitted_order")),
        sa.UniqueConstraint("owner_id", "idempotency_key", name=op.f("uq_sweeps_owner_id_idempotency_key")),
    )
    op.create_index("ix_sweeps_owner_order", "sweeps", ["owner_id", "submitted_order"])
    op.create_index("ix_sweeps_due", "sweeps", ["submitted_order"], postgresql_where=sa.text("due"))
    op.create_index("ix_sweeps_look_at", "sweeps", ["look_at"], postgresql_where=sa.text("look_at IS NOT NULL"))
    op.create_table(
        "sweep_trials",
        sa.Column("sweep_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("rungs", ARRAY(sa.Float()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("steps", sa.Integer(), server_default="0", nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("low", sa.Float(), nullable=True),
        sa.Column("high", sa.Float(), nullable=True),
        sa.Column("output", JSONB(none_as_null=True), nullable=True),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(f"state IN ({_TRIAL_STATES})", name=op.f("ck_sweep_trials_state_known")),
        sa.ForeignKeyConstraint(
            ["sweep_id"], ["sweeps.id"], name=op.f("fk_sweep_trials_sweep_id_sweeps"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_sweep_trials_job_id_jobs"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("sweep_id", "number", name=op.f("pk_sweep_trials")),
    )
    op.create_index("ix_sweep_trials_job_id", "sweep_trials", ["job_id"])
    op.create_index(
        "ix_sweep_trials_open",
        "sweep_trials",
        ["sweep_id"],
        postgresql_where=sa.text("state IN ('running', 'stopped')"),
    )


def downgrade() -> None:
    for table in ("sweep_trials", "sweeps"):
        op.drop_table(table)
