"""a webhook's secret before the present one; histories of pipelines"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None
#: Older code signs with the present secret alone, as it did, and writes no histories.
works_with_previous_code = True


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    now = sa.text("clock_timestamp()")
    op.add_column("webhooks", sa.Column("previous_sealed_secret", sa.LargeBinary(), nullable=True))
    op.add_column("webhooks", sa.Column("previous_until", moment, nullable=True))
    op.add_column("webhooks", sa.Column("updated_at", moment, server_default=now, nullable=False))
    op.create_table(
        "pipeline_events",
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("at", moment, server_default=now, nullable=False),
        sa.Column("step", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["pipeline_id"], ["pipelines.id"], name=op.f("fk_pipeline_events_pipeline_id_pipelines"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("pipeline_id", "seq", name=op.f("pk_pipeline_events")),
    )


def downgrade() -> None:
    op.drop_table("pipeline_events")
    op.drop_column("webhooks", "updated_at")
    op.drop_column("webhooks", "previous_until")
    op.drop_column("webhooks", "previous_sealed_secret")
