"""What follows a failed delivery."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduling.deliveries import BACK_OFF_S, DISABLED_AFTER_S, after_failure


@given(st.integers(1, 100), st.floats(0, 10 * DISABLED_AFTER_S), st.none() | st.integers(300, 599))
def test_every_failure_is_followed_by_a_longer_pause_or_an_end(
    attempt: int, failing_s: float, status: int | None
) -> None:
    next_step = after_failure(attempt, failing_s, status)
    if next_step.again_in_s is not None:
        assert next_step.disabled is None and failing_s < DISABLED_AFTER_S and status != 410
        later = after_failure(attempt + 1, failing_s, status).again_in_s
        assert later is None or later > next_step.again_in_s
    else:
        assert attempt > len(BACK_OFF_S) or next_step.disabled


def test_a_delivery_is_tried_for_three_days_before_its_webhook_would_be_disabled() -> None:
    total_s = sum(BACK_OFF_S)
    assert 3 * 86_400 < total_s < DISABLED_AFTER_S
