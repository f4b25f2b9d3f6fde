"""Deployments on several hosts, hosts that are drained, and certificates of hosts' engines"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017b"
down_revision = "0012b"
branch_labels = None
depends_on = None
#: Older code reads one share of several, and its upsert names a constraint that is gone: it can't deploy.
works_with_previous_code = False


def upgrade() -> None:
    op.add_column("hosts", sa.Column("draining", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("hosts", sa.Column("certificate", sa.String(), nullable=True))
    op.add_column("deployments", sa.Column("share", sa.Integer(), server_default="0", nullable=False))
    op.add_column("deployments", sa.Column("moving_from", sa.String(), nullable=True))
    op.drop_constraint("uq_deployments_owner_id_name", "deployments")
    op.create_unique_constraint(
        op.f("uq_deployments_owner_id_name_share"), "deployments", ["owner_id", "name", "share"]
    )


def downgrade() -> None:
    op.execute("DELETE FROM deployments WHERE share > 0")
    op.drop_constraint("uq_deployments_owner_id_name_share", "deployments")
    op.create_unique_constraint(op.f("uq_deployments_owner_id_name"), "deployments", ["owner_id", "name"])
    op.drop_column("deployments", "moving_from")
    op.drop_column("deployments", "share")
    op.drop_column("hosts", "certificate")
    op.drop_column("hosts", "draining")
