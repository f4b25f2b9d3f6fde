"""visibility: who may read models and data sets beside their owners; and every move of an alias"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None
#: Older code reads and makes what is private, and moves aliases without writing it down.
works_with_previous_code = True

_SHARED = ("models", "datasets")


def upgrade() -> None:
    for table in _SHARED:
        op.add_column(table, sa.Column("visibility", sa.String(), server_default="private", nullable=False))
        op.create_check_constraint(op.f(f"ck_{table}_visibility_known"), table, "visibility IN ('private', 'everyone')")
    op.create_table(
        "model_alias_moves",
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("version_from", sa.Integer(), nullable=True),
        sa.Column("version_to", sa.Integer(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_model_alias_moves_model_id_models"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_id", "alias", "number", name=op.f("pk_model_alias_moves")),
    )


def downgrade() -> None:
    op.drop_table("model_alias_moves")
    for table in _SHARED:
        op.drop_constraint(op.f(f"ck_{table}_visibility_known"), table, type_="check")
        op.drop_column(table, "visibility")
