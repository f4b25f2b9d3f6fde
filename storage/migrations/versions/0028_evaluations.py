"""evaluations of models"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0028"
down_revision = "0025"
branch_labels = None
depends_on = None
#: It adds a table; older code evaluates nothing.
works_with_previous_code = True


def upgrade() -> None:
    moment, now = sa.DateTime(timezone=True), sa.text("clock_timestamp()")
    op.create_table(
        "evaluations",
        sa.Column("result_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("judged", sa.Integer(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("figures", JSONB(), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.ForeignKeyConstraint(
            ["result_id"],
            ["dataset_versions.id"],
            name=op.f("fk_evaluations_result_id_dataset_versions"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.id"],
            name=op.f("fk_evaluations_model_version_id_model_versions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("result_id", "model_version_id", name=op.f("pk_evaluations")),
    )
    op.create_index("ix_evaluations_model_version_id", "evaluations", ["model_version_id"])


def downgrade() -> None:
    op.drop_table("evaluations")
