"""GPUs of deployments, and by name those that jobs and deployments hold: one ledger for both"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0008"
down_revision = "0006b"
branch_labels = None
depends_on = None
#: It adds columns with defaults.
works_with_previous_code = True


def _gpu_ids() -> sa.Column[list[str]]:
    return sa.Column("gpu_ids", ARRAY(sa.TEXT()), server_default=sa.text("'{}'"), nullable=False)


def upgrade() -> None:
    op.add_column("deployments", sa.Column("gpus", sa.Integer(), server_default="0", nullable=False))
    op.add_column("deployments", _gpu_ids())
    op.add_column("jobs", _gpu_ids())


def downgrade() -> None:
    op.drop_column("jobs", "gpu_ids")
    op.drop_column("deployments", "gpu_ids")
    op.drop_column("deployments", "gpus")
