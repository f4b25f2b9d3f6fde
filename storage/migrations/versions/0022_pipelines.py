"""pipelines and their steps"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0022"
down_revision = "0019"
branch_labels = None
depends_on = None
#: It adds tables that nobody else reads.
works_with_previous_code = True

_PIPELINE_STATES = "'running', 'cancelling', 'succeeded', 'failed', 'cancelled'"
_STEP_STATES = "'waiting', 'running', 'succeeded', 'skipped', 'failed', 'cancelled'"


def upgrade() -> None:
    op.create_table(
        "pipelines",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("submitted_order", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("request_sha256", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("due", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(f"state IN ({_PIPELINE_STATES})", name=op.f("ck_pipelines_state_known")),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owners.id"], name=op.f("fk_pipelines_owner_id_owners"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipelines")),
        sa.UniqueConstraint("submitted_order", name=op.f("uq_pipelines_submitted_order")),
        sa.UniqueConstraint("owner_id", "idempotency_key", name=op.f("uq_pipelines_owner_id_idempotency_key")),
    )
    op.create_index("ix_pipelines_owner_order", "pipelines", ["owner_id", "submitted_order"])
    op.create_index("ix_pipelines_due", "pipelines", ["submitted_order"], postgresql_where=sa.text("due"))
    op.create_table(
        "pipeline_steps",
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("condition", sa.String(), nullable=True),
        sa.Column("needs", ARRAY(sa.TEXT()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("inputs", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("warnings", JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("figures", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("output", JSONB(none_as_null=True), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("deployment_id", sa.Uuid(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(f"state IN ({_STEP_STATES})", name=op.f("ck_pipeline_steps_state_known")),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["pipelines.id"],
            name=op.f("fk_pipeline_steps_pipeline_id_pipelines"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_pipeline_steps_job_id_jobs"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployments.id"],
            name=op.f("fk_pipeline_steps_deployment_id_deployments"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("pipeline_id", "name", name=op.f("pk_pipeline_steps")),
    )
    op.create_index("ix_pipeline_steps_job_id", "pipeline_steps", ["job_id"])
    op.create_index(
        "ix_pipeline_steps_running", "pipeline_steps", ["pipeline_id"], postgresql_where=sa.text("state = 'running'")
    )


def downgrade() -> None:
    for table in ("pipeline_steps", "pipelines"):
        op.drop_table(table)
