from __future__ import annotations

import pytest

from jobspecs.lifecycle import ACTIVE, LOSSES_MAX, REASONS, TERMINAL, TRANSITIONS, JobState, Loss, Reason, may


def test_every_state_is_in_the_table_and_in_one_group() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert {JobState.queued, JobState.paused} | ACTIVE | TERMINAL == set(JobState)
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


@pytest.mark.parametrize("reason", Reason)
def test_what_is_counted_is_retried_and_ends_with_a_reason_that_is_known_and_final(reason: Reason) -> None:
    rule = REASONS[reason]
    assert (rule.counts_as is None) == (rule.ends_as is None)
    assert rule.retried or (rule.counts_as is None and not rule.avoids_host)
    if rule.ends_as not in (None, reason):
        assert not REASONS[rule.ends_as].retried


def test_hosts_may_die_more_often_than_the_job_may_crash() -> None:
    assert LOSSES_MAX[Loss.host] > LOSSES_MAX[Loss.crash]


def test_finished_work_is_delivered_although_somebody_wanted_the_place() -> None:
    assert may(JobState.preempting, JobState.uploading)
    assert may(JobState.pausing, JobState.uploading)
    assert not may(JobState.uploading, JobState.preempting)
    assert not may(JobState.uploading, JobState.pausing)
