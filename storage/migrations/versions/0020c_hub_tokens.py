"""Users' own tokens of a model hub, sealed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020c"
down_revision = "0022"
branch_labels = None
depends_on = None
#: Older code uses none of them.
works_with_previous_code = True


def upgrade() -> None:
    op.create_table(
        "hub_tokens",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.String(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owners.id"], name=op.f("fk_hub_tokens_owner_id_owners"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("owner_id", name=op.f("pk_hub_tokens")),
    )


def downgrade() -> None:
    op.drop_table("hub_tokens")
