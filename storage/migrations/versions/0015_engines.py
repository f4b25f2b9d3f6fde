"""Which engine serves a deployment and why, engines that somebody else runs, and what engines hosts have"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0015"
down_revision = "0017"
branch_labels = None
depends_on = None
#: It adds columns. Older code sees no deployment without a model version, and passes such over.
works_with_previous_code = True

_TEXTS = ("task", "engine_reason", "endpoint_model")
_DOCUMENTS = ("external", "load")


def upgrade() -> None:
    op.add_column("hosts", sa.Column("engines", JSONB(), server_default=sa.text("'{}'"), nullable=False))
    for name in _TEXTS:
        op.add_column("deployments", sa.Column(name, sa.String(), nullable=True))
    for name in _DOCUMENTS:
        op.add_column("deployments", sa.Column(name, JSONB(), nullable=True))
    op.alter_column("deployments", "model_version_id", nullable=True)


def downgrade() -> None:
    op.execute("DELETE FROM deployments WHERE model_version_id IS NULL")
    op.alter_column("deployments", "model_version_id", nullable=False)
    for name in (*_DOCUMENTS, *_TEXTS):
        op.drop_column("deployments", name)
    op.drop_column("hosts", "engines")
