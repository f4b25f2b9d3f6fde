"""hub pushes: what is being pushed through the hub's protocol"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0014"
down_revision = "0015"
branch_labels = None
depends_on = None
#: It adds tables that nobody else reads.
works_with_previous_code = True


def upgrade() -> None:
    op.create_table(
        "hub_pushes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("files", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("written", ARRAY(sa.TEXT()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("announced", ARRAY(sa.TEXT()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("commits", sa.Integer(), server_default="0", nullable=False),
        _moment("created_at"),
        _moment("touched_at"),
        sa.CheckConstraint("kind IN ('models', 'datasets')", name=op.f("ck_hub_pushes_kind_known")),
        _of_owner("hub_pushes"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hub_pushes")),
        sa.UniqueConstraint("kind", "owner_id", "name", name=op.f("uq_hub_pushes_kind_owner_id_name")),
    )
    op.create_index("ix_hub_pushes_touched_at", "hub_pushes", ["touched_at"])
    op.create_table(
        "hub_uploads",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("pieces", JSONB(), nullable=True),
        sa.Column("parts", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        _moment("created_at"),
        _of_owner("hub_uploads"),
        sa.PrimaryKeyConstraint("owner_id", "sha256", name=op.f("pk_hub_uploads")),
    )
    op.create_table(
        "hub_xorbs",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        _moment("created_at"),
        _of_owner("hub_xorbs"),
        sa.PrimaryKeyConstraint("owner_id", "hash", name=op.f("pk_hub_xorbs")),
    )
    op.create_index("ix_hub_xorbs_created_at", "hub_xorbs", ["created_at"])


def downgrade() -> None:
    for table in ("hub_xorbs", "hub_uploads", "hub_pushes"):
        op.drop_table(table)


def _moment(name: str) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False)


def _of_owner(table: str) -> sa.ForeignKeyConstraint:
    """What an owner was pushing goes with the owner."""
    name = op.f(f"fk_{table}_owner_id_owners")
    return sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=name, ondelete="CASCADE")
