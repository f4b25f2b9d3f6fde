from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from scheduling.decisions import Assign, Host, Snapshot, Waiting, decide

waiting_jobs = st.lists(
    st.builds(
        Waiting,
        job_id=st.uuids(),
        priority=st.integers(-2, 2),
        order=st.integers(1, 1000),
        slots=st.integers(1, 3),
        memory_bytes=st.integers(0, 8),
        gpus=st.integers(0, 2),
    ),
    max_size=12,
    unique_by=(lambda job: job.order, lambda job: job.job_id),
)
hosts = st.lists(
    st.builds(
        Host,
        name=st.text("abcdef", min_size=1, max_size=4),
        slots_total=st.integers(1, 4),
        memory_bytes_total=st.integers(0, 16),
        gpus_total=st.integers(0, 2),
        slots_used=st.integers(0, 2),
        memory_bytes_used=st.integers(0, 8),
        gpus_used=st.integers(0, 2),
    ),
    max_size=4,
    unique_by=lambda host: host.name,
)


def job(number: int, *, priority: int = 0, slots: int = 1, memory: int = 1) -> Waiting:
    return Waiting(job_id=UUID(int=number), priority=priority, order=number, slots=slots, memory_bytes=memory)


@given(waiting_jobs, hosts)
def test_no_host_gets_more_than_it_has(waiting: list[Waiting], machines: list[Host]) -> None:
    by_id = {job.job_id: job for job in waiting}
    state = {host.name: host for host in machines}
    for action in decide(Snapshot(waiting, machines)):
        assert state[action.host].can_take(by_id[action.job_id])
        state[action.host] = state[action.host].with_job(by_id[action.job_id])


@given(waiting_jobs, hosts)
def test_a_job_is_started_at_most_once(waiting: list[Waiting], machines: list[Host]) -> None:
    started = [action.job_id for action in decide(Snapshot(waiting, machines))]
    assert len(started) == len(set(started))


@given(waiting_jobs, hosts, st.randoms(use_true_random=False))
def test_the_order_in_which_a_snapshot_lists_things_does_not_matter(
    waiting: list[Waiting], machines: list[Host], random: object
) -> None:
    shuffled_jobs, shuffled_hosts = list(waiting), list(machines)
    random.shuffle(shuffled_jobs)  # type: ignore[attr-defined]
    random.shuffle(shuffled_hosts)  # type: ignore[attr-defined]
    assert decide(Snapshot(waiting, machines)) == decide(Snapshot(shuffled_jobs, shuffled_hosts))


@given(waiting_jobs, hosts)
def test_nobody_overtakes_a_job_on_a_host_that_could_have_taken_it(
    waiting: list[Waiting], machines: list[Host]
) -> None:
    actions = {action.job_id: action.host for action in decide(Snapshot(waiting, machines))}
    order = {job.job_id: (-job.priority, job.order) for job in waiting}
    by_name = {host.name: host for host in machines}
    for held_back in (job for job in waiting if job.job_id not in actions):
        for job_id, host in actions.items():
            if order[job_id] > order[held_back.job_id]:
                assert not by_name[host].could_ever_take(held_back)


@given(waiting_jobs, hosts)
def test_the_first_job_starts_whenever_some_host_has_room(waiting: list[Waiting], machines: list[Host]) -> None:
    if waiting:
        first = min(waiting, key=lambda job: (-job.priority, job.order))
        started = any(action.job_id == first.job_id for action in decide(Snapshot(waiting, machines)))
        assert started == any(host.can_take(first) for host in machines)


def test_priority_goes_before_age_and_age_before_all_else() -> None:
    host = Host("h", slots_total=2, memory_bytes_total=10)
    actions = decide(Snapshot([job(1), job(2), job(3, priority=1)], [host]))
    assert actions == [Assign(UUID(int=3), "h"), Assign(UUID(int=1), "h")]


def test_a_large_job_is_not_starved_by_small_ones() -> None:
    host = Host("h", slots_total=2, memory_bytes_total=10, slots_used=1)
    assert decide(Snapshot([job(1, slots=2), job(2)], [host])) == []


def test_a_job_that_fits_no_host_at_all_holds_nobody_back() -> None:
    host = Host("h", slots_total=2, memory_bytes_total=10)
    assert decide(Snapshot([job(1, memory=99), job(2)], [host])) == [Assign(UUID(int=2), "h")]


def test_jobs_spread_over_empty_hosts() -> None:
    machines = [Host("a", 2, 10), Host("b", 2, 10)]
    actions = decide(Snapshot([job(1), job(2)], machines))
    assert {action.host for action in actions} == {"a", "b"}


def test_a_job_keeps_away_from_a_host_that_could_not_run_it_even_if_the_other_is_busy() -> None:
    machines = [Host("bad", 4, 16), Host("busy", 1, 16, slots_used=1)]
    avoiding = replace(job(1), avoid_hosts=frozenset({"bad"}))
    assert decide(Snapshot([avoiding, job(2)], machines)) == [Assign(job(2).job_id, "bad")]


def test_a_job_takes_a_host_that_it_avoids_when_no_other_could_ever_take_it() -> None:
    machines = [Host("bad", 4, 16), Host("small", 1, 4)]
    avoiding = replace(job(1, memory=8), avoid_hosts=frozenset({"bad"}))
    assert decide(Snapshot([avoiding], machines)) == [Assign(avoiding.job_id, "bad")]
