"""owners: what things belong to, users being one kind"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0007"
branch_labels = None
depends_on = None

#: Tables whose `owner_id` refers to an owner.
_OWNED = ("datasets", "deployments", "jobs", "model_imports", "models")


def upgrade() -> None:
    op.create_table(
        "owners",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.CheckConstraint("kind IN ('user')", name=op.f("ck_owners_kind_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_owners")),
        sa.UniqueConstraint("name", name=op.f("uq_owners_name")),
    )
    # Ids stay: what users have refers to the owners of the same ids.
    op.execute("INSERT INTO owners (id, kind, name) SELECT id, 'user', name FROM users")
    for table in _OWNED:
        op.drop_constraint(op.f(f"fk_{table}_owner_id_users"), table, type_="foreignkey")
        op.create_foreign_key(op.f(f"fk_{table}_owner_id_owners"), table, "owners", ["owner_id"], ["id"])
    op.create_foreign_key(op.f("fk_users_id_owners"), "users", "owners", ["id"], ["id"])
    op.drop_constraint(op.f("uq_users_name"), "users", type_="unique")
    op.drop_column("users", "name")


def downgrade() -> None:
    op.add_column("users", sa.Column("name", sa.String(), nullable=True))
    op.execute("UPDATE users SET name = owners.name FROM owners WHERE owners.id = users.id")
    op.alter_column("users", "name", nullable=False)
    op.create_unique_constraint(op.f("uq_users_name"), "users", ["name"])
    op.drop_constraint(op.f("fk_users_id_owners"), "users", type_="foreignkey")
    for table in _OWNED:
        op.drop_constraint(op.f(f"fk_{table}_owner_id_owners"), table, type_="foreignkey")
        op.create_foreign_key(op.f(f"fk_{table}_owner_id_users"), table, "users", ["owner_id"], ["id"])
    op.drop_table("owners")
