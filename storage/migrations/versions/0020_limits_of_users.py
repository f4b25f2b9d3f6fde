"""How much a user may ask of deployed models"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0017b"
branch_labels = None
depends_on = None
#: Older code enforces no limits.
works_with_previous_code = True

_LIMITS = ("requests_per_minute", "tokens_per_minute", "concurrent_requests")


def upgrade() -> None:
    for limit in _LIMITS:
        op.add_column("users", sa.Column(limit, sa.Integer(), nullable=True))


def downgrade() -> None:
    for limit in reversed(_LIMITS):
        op.drop_column("users", limit)
