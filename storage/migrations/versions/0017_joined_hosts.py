"""What machines hosts are, and which of them joined with a token"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0017"
down_revision = "0013"
branch_labels = None
depends_on = None
#: It adds columns that may be null.
works_with_previous_code = True


def upgrade() -> None:
    op.add_column("hosts", sa.Column("machine", JSONB(), nullable=True))
    op.add_column("hosts", sa.Column("joined_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("hosts", "joined_at")
    op.drop_column("hosts", "machine")
