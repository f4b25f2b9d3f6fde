"""How long a job that was given back waits before it may start again."""

from __future__ import annotations

from jobspecs.lifecycle import REASONS, Loss, Reason

#: Seconds before a job that was given back may start again: at once after a first crash or a first dead host, later
#: after more and when a part of the platform is missing, so that it is not asked in a tight loop.
_BACK_OFF_S = 10.0
#: Each further loss of a host multiplies the back-off: five of them spread over a quarter of an hour, in which
#: somebody may find room on a full disk.
_BACK_OFF_GROWTH = 4.0


def back_off_s(reason: Reason, losses: int) -> float:
    """Seconds to wait after the `losses`th loss of this kind in a row."""
    rule = REASONS[reason]
    if reason in (Reason.preempted, Reason.worker_stopped):
        return 0.0
    if rule.counts_as is None:
        return _BACK_OFF_S
    if losses == 1 and not rule.avoids_host:
        return 0.0
    return _BACK_OFF_S * (_BACK_OFF_GROWTH ** (losses - 1) if rule.counts_as is Loss.host else 1.0)
