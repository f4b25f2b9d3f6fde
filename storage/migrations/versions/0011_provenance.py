"""provenance: where the rows of a data set came from, and their licence"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
#: It adds columns that may be null.
works_with_previous_code = True


def upgrade() -> None:
    for name in ("origin", "license"):
        op.add_column("dataset_versions", sa.Column(name, sa.String(), nullable=True))


def downgrade() -> None:
    for name in ("license", "origin"):
        op.drop_column("dataset_versions", name)
