"""Adapters that are served beside the model of a deployment, over its weights"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0023"
branch_labels = None
depends_on = None
#: Older code serves the models of deployments without their adapters.
works_with_previous_code = True


def upgrade() -> None:
    op.create_table(
        "deployment_adapters",
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployments.id"],
            name=op.f("fk_deployment_adapters_deployment_id_deployments"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.id"],
            name=op.f("fk_deployment_adapters_model_version_id_model_versions"),
        ),
        sa.PrimaryKeyConstraint("deployment_id", "model_version_id", name=op.f("pk_deployment_adapters")),
    )
    op.create_index(
        op.f("ix_deployment_adapters_model_version_id"), "deployment_adapters", ["model_version_id"], unique=False
    )


def downgrade() -> None:
    op.drop_table("deployment_adapters")
