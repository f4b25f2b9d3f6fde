"""boost: what an administrator raises above everybody's jobs; priority orders one's own"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006b"
down_revision = "0003"
branch_labels = None
depends_on = None

works_with_previous_code = True

_QUEUED = sa.text("state = 'queued'")
_AVOIDING = sa.text("state = 'queued' AND avoid_until IS NOT NULL")
_HEAD = ["priority", "owner_id", "gpus", "slots", "memory_bytes", "max_runtime_s", "submitted_order"]


def upgrade() -> None:
    op.add_column("jobs", sa.Column("boost", sa.Integer(), server_default="0", nullable=False))
    op.create_check_constraint(op.f("ck_jobs_boost_known"), "jobs", "boost BETWEEN 0 AND 100")
    _index_again("boost DESC", ["boost", *_HEAD])


def downgrade() -> None:
    _index_again("priority DESC", _HEAD)
    op.drop_constraint(op.f("ck_jobs_boost_known"), "jobs", type_="check")
    op.drop_column("jobs", "boost")


def _index_again(order: str, head: list[str]) -> None:
    for name in ("queue", "heads", "avoiding"):
        op.drop_index(f"ix_jobs_{name}", "jobs")
    op.create_index("ix_jobs_queue", "jobs", [sa.text(order), "submitted_order"], postgresql_where=_QUEUED)
    op.create_index("ix_jobs_heads", "jobs", head, postgresql_where=_QUEUED)
    op.create_index("ix_jobs_avoiding", "jobs", [sa.text(order), "submitted_order"], postgresql_where=_AVOIDING)
