"""What becomes of a webhook's delivery after an attempt: again later, given up, or the end of the webhook."""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds between an attempt that failed and the next one; after the last it is given up. Three days in all, so that a
#: receiver that breaks on a Friday evening gets on Monday what it missed.
BACK_OFF_S = (5.0, 60.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
#: Seconds without a single success, while there were failures, after which a webhook is disabled.
DISABLED_AFTER_S = 5 * 24 * 3600.0
#: The status by which a receiver says that it is gone for good.
_GONE = 410


@dataclass(frozen=True)
class Failure:
    """`again_in_s`: seconds until the next attempt, None when it is given up. `disabled`: why nothing more is sent."""

    again_in_s: float | None
    disabled: str | None = None


def after_failure(attempt: int, failing_s: float, status: int | None) -> Failure:
    """`attempt`: the one that failed, from 1. `failing_s`: seconds since the webhook's first failure without a success
    after it. `status`: of the answer, None when there was none.
    """
    if status == _GONE:
        return Failure(None, "The receiver answered 410: it is gone for good.")
    if failing_s >= DISABLED_AFTER_S:
        days = DISABLED_AFTER_S / 86_400
        return Failure(None, f"Every delivery of {days:g} days failed.")
    if attempt > len(BACK_OFF_S):
        return Failure(None)
    return Failure(BACK_OFF_S[attempt - 1])
