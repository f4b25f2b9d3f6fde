from __future__ import annotations

import pytest

from jobspecs.lifecycle import ACTIVE, REASONS, TERMINAL, TRANSITIONS, JobState, Reason, may


def test_every_state_is_in_the_table_and_in_one_group() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert {JobState.queued} | ACTIVE | TERMINAL == set(JobState)
    assert not ACTIVE & TERMINAL


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_terminal_state_is_never_left(state: JobState) -> None:
    assert not any(may(state, target) for target in JobState)


@pytest.mark.parametrize("state", sorted(set(JobState) - TERMINAL))
def test_from_every_other_state_an_end_can_be_reached(state: JobState) -> None:
    reached, frontier = {state}, {state}
    while frontier:
        frontier = {target for source in frontier for target in TRANSITIONS[source]} - reached
        reached |= frontier
    assert reached & TERMINAL


def test_success_comes_from_uploading_only() -> None:
    assert [source for source in JobState if may(source, JobState.succeeded)] == [JobState.uploading]


def test_a_job_that_is_being_cancelled_can_only_become_cancelled() -> None:
    assert TRANSITIONS[JobState.cancelling] == {JobState.cancelled}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_tells_what_to_do(reason: Reason) -> None:
    assert REASONS[reason].remedy.endswith(".")
