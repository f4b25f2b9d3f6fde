"""blobs: content that is stored once, and who refers to it

Versions that are there keep their prefix, and their objects stay where they are.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("keep_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blobs")),
        sa.UniqueConstraint("sha256", name=op.f("uq_blobs_sha256")),
    )
    op.create_index("ix_blobs_keep_until", "blobs", ["keep_until"])
    op.create_table(
        "model_pieces",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("blob_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_versions.id"], name=op.f("fk_model_pieces_version_id_model_versions")
        ),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"], name=op.f("fk_model_pieces_blob_id_blobs")),
        sa.PrimaryKeyConstraint("version_id", "path", "position", name=op.f("pk_model_pieces")),
    )
    op.create_index(op.f("ix_model_pieces_blob_id"), "model_pieces", ["blob_id"])
    op.create_table(
        "import_blobs",
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.Column("blob_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["import_id"], ["model_imports.id"], name=op.f("fk_import_blobs_import_id_model_imports")
        ),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"], name=op.f("fk_import_blobs_blob_id_blobs")),
        sa.PrimaryKeyConstraint("import_id", "blob_id", name=op.f("pk_import_blobs")),
    )
    op.create_index(op.f("ix_import_blobs_blob_id"), "import_blobs", ["blob_id"])
    op.alter_column("model_versions", "prefix", existing_type=sa.String(), nullable=True)
    op.add_column("model_imports", sa.Column("version_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_model_imports_version_id_model_versions"), "model_imports", "model_versions", ["version_id"], ["id"]
    )
    op.create_index(op.f("ix_model_imports_version_id"), "model_imports", ["version_id"])
    op.execute(
        "UPDATE model_imports SET version_id = version.id FROM model_versions AS version "
        "WHERE version.prefix = 'models/' || model_imports.id"
    )
    op.add_column("model_import_files", sa.Column("pieces", ARRAY(sa.TEXT()), server_default="{}", nullable=False))


def downgrade() -> None:
    op.drop_column("model_import_files", "pieces")
    op.drop_index(op.f("ix_model_imports_version_id"), "model_imports")
    op.drop_constraint(op.f("fk_model_imports_version_id_model_versions"), "model_imports", type_="foreignkey")
    op.drop_column("model_imports", "version_id")
    # Their files can't be found any more; the rows stay, for the jobs and deployments that name them.
    op.execute("UPDATE model_versions SET prefix = 'blobs/' || id WHERE prefix IS NULL")
    op.alter_column("model_versions", "prefix", existing_type=sa.String(), nullable=False)
    for table in ("import_blobs", "model_pieces", "blobs"):
        op.drop_table(table)
