"""what the comparison of a version with its source found, and aliases that were forced onto one"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0026c"
branch_labels = None
depends_on = None
#: Older code compares nothing and forces nothing.
works_with_previous_code = True

_EXPLAINED = "(verification_state IS NOT DISTINCT FROM 'unverified') = (verification_cause IS NOT NULL)"


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("verification_state", sa.String(), nullable=True))
    op.add_column("model_versions", sa.Column("verification_cause", sa.String(), nullable=True))
    op.create_check_constraint(op.f("ck_model_versions_verification_explained"), "model_versions", _EXPLAINED)
    forced: sa.Column[bool] = sa.Column("forced", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    op.add_column("model_alias_moves", forced)


def downgrade() -> None:
    op.drop_column("model_alias_moves", "forced")
    op.drop_constraint(op.f("ck_model_versions_verification_explained"), "model_versions", type_="check")
    for name in ("verification_cause", "verification_state"):
        op.drop_column("model_versions", name)
