"""a webhook's secret before the present one, and when it was changed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0023b"
branch_labels = None
depends_on = None
#: Older code signs with the present secret alone, as it did.
works_with_previous_code = True


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    now = sa.text("clock_timestamp()")
    op.add_column("webhooks", sa.Column("previous_sealed_secret", sa.LargeBinary(), nullable=True))
    op.add_column("webhooks", sa.Column("previous_until", moment, nullable=True))
    op.add_column("webhooks", sa.Column("updated_at", moment, server_default=now, nullable=False))


def downgrade() -> None:
    op.drop_column("webhooks", "updated_at")
    op.drop_column("webhooks", "previous_until")
    op.drop_column("webhooks", "previous_sealed_secret")
