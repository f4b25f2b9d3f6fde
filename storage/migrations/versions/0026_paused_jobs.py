"""jobs that are paused"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0023b"
branch_labels = None
depends_on = None
#: Older code knows no such state: it could neither list a paused job nor renew the lease of one that is pausing.
works_with_previous_code = False

_FORMER = (
    "'queued', 'assigned', 'preparing', 'running', 'uploading', 'cancelling', 'preempting', "
    "'succeeded', 'failed', 'cancelled'"
)
_STATES = (
    "'queued', 'assigned', 'preparing', 'running', 'uploading', 'cancelling', 'preempting', 'pausing', 'paused', "
    "'succeeded', 'failed', 'cancelled'"
)


def upgrade() -> None:
    _allow(_STATES)


def downgrade() -> None:
    # What is paused goes on: nothing else keeps its checkpoint.
    op.execute(sa.text("UPDATE jobs SET state = 'queued', queued_at = clock_timestamp() WHERE state = 'paused'"))
    op.execute(sa.text("UPDATE jobs SET state = 'preempting' WHERE state = 'pausing'"))
    _allow(_FORMER)


def _allow(states: str) -> None:
    op.drop_constraint(op.f("ck_jobs_state_known"), "jobs", type_="check")
    op.create_check_constraint(op.f("ck_jobs_state_known"), "jobs", f"state IN ({states})")
