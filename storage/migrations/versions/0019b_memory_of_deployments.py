"""What deployments take of memory by parts, of GPUs' memory too, and the context that they declare"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0019b"
down_revision = "0018"
branch_labels = None
depends_on = None
works_with_previous_code = True


def upgrade() -> None:
    op.add_column("deployments", sa.Column("gpu_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("deployments", sa.Column("memory", JSONB(), nullable=True))
    op.add_column("deployments", sa.Column("context_tokens", sa.Integer(), nullable=True))
    op.add_column("deployments", sa.Column("sequences", sa.Integer(), nullable=True))


def downgrade() -> None:
    for name in ("gpu_bytes", "memory", "context_tokens", "sequences"):
        op.drop_column("deployments", name)
