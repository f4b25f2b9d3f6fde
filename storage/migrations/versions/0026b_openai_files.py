"""what files are for, files that come in parts, and what clients note of their jobs"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0026b"
down_revision = "0027"
branch_labels = None
depends_on = None
#: It adds tables, and columns with defaults.
works_with_previous_code = True

_PURPOSES = "purpose IN ('fine-tune', 'batch', 'batch_output')"


def upgrade() -> None:
    moment, now = sa.DateTime(timezone=True), sa.text("clock_timestamp()")
    op.add_column("jobs", sa.Column("metadata", JSONB(), server_default=sa.text("'{}'"), nullable=False))
    op.add_column("models", sa.Column("first_use", JSONB(none_as_null=True), nullable=True))
    op.add_column("dataset_versions", sa.Column("purpose", sa.String(), server_default="fine-tune", nullable=False))
    op.create_check_constraint(op.f("ck_dataset_versions_purpose_known"), "dataset_versions", _PURPOSES)
    op.create_table(
        "uploads",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("file_name", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), server_default="pending", nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.CheckConstraint(_PURPOSES, name=op.f("ck_uploads_purpose_known")),
        sa.CheckConstraint("state IN ('pending', 'completed', 'cancelled')", name=op.f("ck_uploads_state_known")),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owners.id"], name=op.f("fk_uploads_owner_id_owners"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_owner_id", "uploads", ["owner_id", "created_at"])
    op.create_table(
        "upload_parts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("upload_id", sa.Uuid(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_upload_parts_upload_id_uploads"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload_parts")),
    )
    op.create_index("ix_upload_parts_upload_id", "upload_parts", ["upload_id"])


def downgrade() -> None:
    op.drop_table("upload_parts")
    op.drop_table("uploads")
    op.drop_constraint(op.f("ck_dataset_versions_purpose_known"), "dataset_versions", type_="check")
    op.drop_column("dataset_versions", "purpose")
    op.drop_column("models", "first_use")
    op.drop_column("jobs", "metadata")
