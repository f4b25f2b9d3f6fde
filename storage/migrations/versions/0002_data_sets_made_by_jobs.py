"""data sets made by jobs, headers of files without one, warnings at submit"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

works_with_previous_code = True

_TABLE = "dataset_versions"


def upgrade() -> None:
    op.add_column(_TABLE, sa.Column("header", sa.JSON(none_as_null=True), nullable=True))
    op.add_column(_TABLE, sa.Column("job_id", sa.Uuid(), nullable=True))
    op.add_column(_TABLE, sa.Column("fence", sa.Integer(), nullable=True))
    op.add_column(_TABLE, sa.Column("manifest", sa.JSON(none_as_null=True), nullable=True))
    op.create_foreign_key(op.f("fk_dataset_versions_job_id_jobs"), _TABLE, "jobs", ["job_id"], ["id"])
    op.create_unique_constraint(op.f("uq_dataset_versions_job_id"), _TABLE, ["job_id"])
    op.add_column("jobs", sa.Column("warnings", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False))


def downgrade() -> None:
    op.drop_column("jobs", "warnings")
    op.drop_constraint(op.f("uq_dataset_versions_job_id"), _TABLE, type_="unique")
    op.drop_constraint(op.f("fk_dataset_versions_job_id_jobs"), _TABLE, type_="foreignkey")
    for name in ("manifest", "fence", "job_id", "header"):
        op.drop_column(_TABLE, name)
