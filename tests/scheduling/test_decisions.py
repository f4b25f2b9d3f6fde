from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from random import Random
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from scheduling.decisions import Assign, Host, Resources, Running, Snapshot, Waiting, decide, in_turn, suited_hosts
from scheduling.replay import pack, unpack

ADA, BOB = UUID(int=7), UUID(int=8)
amounts = st.builds(Resources, slots=st.integers(1, 3), memory_bytes=st.integers(0, 8), gpus=st.integers(0, 2))
times_s = st.integers(1, 6).map(float)
waiting_jobs = st.lists(
    st.builds(
        Waiting,
        job_id=st.uuids(),
        owner_id=st.just(ADA),
        priority=st.integers(-1, 1),
        order=st.integers(1, 1000),
        needs=amounts,
        time_limit_s=times_s,
        avoid_hosts=st.sampled_from([frozenset[str](), frozenset[str](), frozenset({"host-0"})]),
        boost=st.integers(0, 1),
    ),
    max_size=12,
    unique_by=(lambda job: job.order, lambda job: job.job_id),
)


@st.composite
def machines(draw: st.DrawFn) -> list[Host]:
    """Up to four hosts, none of which holds more than it has."""
    capacities = st.builds(Resources, slots=st.integers(1, 5), memory_bytes=st.integers(0, 16), gpus=st.integers(0, 3))
    made = []
    for number, total in enumerate(draw(st.lists(capacities, max_size=4))):
        host = Host(f"host-{number}", total)
        for needs, ends_in_s in draw(st.lists(st.tuples(amounts, times_s), max_size=4)):
            if host.can_take(needs):
                host = replace(host, running=(*host.running, Running(needs, ends_in_s)))
        made.append(host)
    return made


def position(job: Waiting) -> tuple[int, int, int]:
    """Where a job of the one owner of these tests stands."""
    return -job.boost, -job.priority, job.order


def after(actions: list[Assign], snapshot: Snapshot) -> dict[str, Host]:
    jobs, hosts = {job.job_id: job for job in snapshot.waiting}, {host.name: host for host in snapshot.hosts}
    for action in actions:
        hosts[action.host] = hosts[action.host].with_job(jobs[action.job_id])
    return hosts


def unstarted(actions: list[Assign], snapshot: Snapshot) -> list[Waiting]:
    started = {action.job_id for action in actions}
    return sorted((job for job in snapshot.waiting if job.job_id not in started), key=position)


snapshots = st.builds(Snapshot, waiting=waiting_jobs, hosts=machines())


@given(snapshots)
def test_no_host_gets_more_than_it_has_and_no_job_starts_twice(snapshot: Snapshot) -> None:
    actions = decide(snapshot)
    assert len({action.job_id for action in actions}) == len(actions)
    for host in after(actions, snapshot).values():
        assert host.free.slots >= 0 and host.free.memory_bytes >= 0 and host.free.gpus >= 0


@given(snapshots, st.randoms(use_true_random=False))
def test_the_order_in_which_a_snapshot_lists_things_does_not_matter(snapshot: Snapshot, random: Random) -> None:
    jobs, hosts = list(snapshot.waiting), list(snapshot.hosts)
    random.shuffle(jobs)
    random.shuffle(hosts)
    assert decide(snapshot) == decide(Snapshot(jobs, hosts))


@given(snapshots)
def test_a_decision_can_be_replayed_from_its_bytes(snapshot: Snapshot) -> None:
    again, actions = unpack(pack(snapshot, decide(snapshot)))
    assert again == snapshot
    assert decide(again) == actions


@given(snapshots)
def test_one_host_at_most_is_kept_free_and_only_for_a_job_that_goes_first(snapshot: Snapshot) -> None:
    actions = decide(snapshot)
    hosts = after(actions, snapshot)
    left = unstarted(actions, snapshot)
    room = {
        job.job_id: {host.name for host in suited_hosts(job, hosts.values()) if host.can_take(job.needs)}
        for job in left
    }
    idle = set[str]().union(*room.values())
    assert len(idle) <= 1
    for name in idle:
        waits_for_it = [
            job for job in left if not room[job.job_id] and hosts[name] in suited_hosts(job, hosts.values())
        ]
        first = min(position(job) for job in waits_for_it)
        assert all(first < position(job) for job in left if name in room[job.job_id])


@given(snapshots)
def test_the_first_job_starts_whenever_some_host_has_room(snapshot: Snapshot) -> None:
    if snapshot.waiting:
        first = min(snapshot.waiting, key=position)
        started = any(action.job_id == first.job_id for action in decide(snapshot))
        assert started == any(host.can_take(first.needs) for host in suited_hosts(first, snapshot.hosts))


@given(snapshots)
def test_who_goes_first_is_served_as_if_nobody_came_behind(snapshot: Snapshot) -> None:
    order = sorted(snapshot.waiting, key=position)
    actions = decide(snapshot)
    for count in range(len(order)):
        ahead = {job.job_id for job in order[:count]}
        assert decide(Snapshot(order[:count], snapshot.hosts)) == [one for one in actions if one.job_id in ahead]


def latest_start_s(job: Waiting, hosts: dict[str, Host]) -> float:
    """By time limits alone, if nothing else starts: counted by hand, not by the code under test."""
    best = math.inf
    for host in suited_hosts(job, hosts.values()):
        for at_s in (0.0, *(running.ends_in_s for running in host.running)):
            used = [running.needs for running in host.running if running.ends_in_s > at_s]
            if (
                sum(needs.slots for needs in used) + job.needs.slots <= host.total.slots
                and sum(needs.memory_bytes for needs in used) + job.needs.memory_bytes <= host.total.memory_bytes
                and sum(needs.gpus for needs in used) + job.needs.gpus <= host.total.gpus
            ):
                best = min(best, at_s)
    return best


@given(snapshots, st.randoms(use_true_random=False))
def test_backfill_never_delays_the_job_in_front_whenever_the_others_end(snapshot: Snapshot, random: Random) -> None:
    """Each running job ends early or at its limit to the second; new looks are taken at each end."""
    now_s = 0.0
    state = {host.name: host for host in snapshot.hosts}
    left = list(snapshot.waiting)
    ends: dict[str, list[tuple[float, float, Resources]]] = {name: [] for name in state}

    def runs(host: str, needs: Resources, limit_s: float) -> None:
        lasts_s = limit_s if random.random() < 0.5 else random.uniform(0.1, limit_s)
        ends[host].append((now_s + lasts_s, now_s + limit_s, needs))

    for host in snapshot.hosts:
        for holder in host.running:
            runs(host.name, holder.needs, holder.ends_in_s)
    promised: dict[UUID, float] = {}
    while True:
        for name, host in state.items():
            ends[name] = [one for one in ends[name] if one[0] > now_s]
            state[name] = replace(host, running=tuple(Running(needs, by - now_s) for _, by, needs in ends[name]))
        by_id = {job.job_id: job for job in left}
        actions = decide(Snapshot(left, list(state.values())))
        started = {action.job_id for action in actions}
        front = next((job for job in sorted(left, key=position) if job.job_id not in started), None)
        if front is not None and front.job_id not in promised:
            ahead = [one for one in actions if position(by_id[one.job_id]) < position(front)]
            promised[front.job_id] = now_s + latest_start_s(front, after(ahead, Snapshot(left, list(state.values()))))
        for action in actions:
            job = by_id[action.job_id]
            assert now_s <= promised.get(job.job_id, math.inf) + 1e-6
            runs(action.host, job.needs, job.time_limit_s)
        left = [job for job in left if job.job_id not in started]
        coming = [end for each in ends.values() for end, _, _ in each]
        if not coming:
            break
        now_s = min(coming)
    # Whoever was promised a place has got it.
    assert all(promised.get(job.job_id, math.inf) == math.inf for job in left)


@given(snapshots, st.integers(1, 3))
def test_looking_at_the_heads_of_groups_alone_starts_the_same_jobs(snapshot: Snapshot, depth: int) -> None:
    left, hosts = list(snapshot.waiting), {host.name: host for host in snapshot.hosts}
    started: list[Assign] = []
    while True:
        groups: dict[tuple[object, ...], list[Waiting]] = defaultdict(list)
        for job in sorted(left, key=position):
            groups[job.boost, job.priority, job.needs, job.time_limit_s, job.avoid_hosts].append(job)
        heads = [job for group in groups.values() for job in group[: depth - 1]]
        heads += [replace(group[depth - 1], followed=True) for group in groups.values() if len(group) >= depth]
        actions = decide(Snapshot(heads, list(hosts.values())))
        if not actions:
            break
        hosts = after(actions, Snapshot(left, list(hosts.values())))
        started += actions
        left = unstarted(actions, Snapshot(left, []))
    assert started == decide(snapshot)


def job(
    number: int, *, priority: int = 0, slots: int = 1, memory: int = 1, gpus: int = 0, limit_s: float = 9
) -> Waiting:
    return Waiting(UUID(int=number), ADA, priority, number, Resources(slots, memory, gpus), limit_s)


def host(
    name: str = "h", *, slots: int = 2, memory: int = 10, gpus: int = 0, running: tuple[Running, ...] = ()
) -> Host:
    return Host(name, Resources(slots, memory, gpus), running)


def running(ends_in_s: float, *, slots: int = 1, gpus: int = 0) -> Running:
    return Running(Resources(slots, 1, gpus), ends_in_s)


def test_priority_goes_before_age_and_age_before_all_else() -> None:
    actions = decide(Snapshot([job(1), job(2), job(3, priority=1)], [host()]))
    assert actions == [Assign(UUID(int=3), "h"), Assign(UUID(int=1), "h")]


def test_priority_passes_ones_own_jobs_and_a_boost_everybodys() -> None:
    mine, urgent, raised = job(1), job(3, priority=100), replace(job(5), boost=1)
    theirs = [replace(job(number), owner_id=BOB) for number in (2, 4)]
    turns = in_turn([mine, *theirs, urgent, raised])
    # The urgent one waits for its own turn, and the owner's older one behind it.
    assert [one.order for one in turns] == [5, 2, 3, 1, 4]


@given(waiting_jobs, st.lists(st.sampled_from([ADA, BOB]), min_size=12), st.lists(st.integers(-100, 100), min_size=12))
def test_no_priority_puts_more_jobs_before_others_than_were_submitted_before_them(
    waiting: list[Waiting], owners: list[UUID], priorities: list[int]
) -> None:
    """Whatever Ada's priorities are; Bob has none."""
    jobs = [
        replace(one, owner_id=owner, boost=0, priority=priority if owner == ADA else 0)
        for one, owner, priority in zip(waiting, owners, priorities, strict=False)
    ]
    turns = in_turn(jobs)
    assert sorted(turns, key=lambda one: one.order) == sorted(jobs, key=lambda one: one.order)
    for place, one in enumerate(turns):
        if one.owner_id == BOB:
            assert {ahead.order for ahead in turns[:place]} <= {
                older.order for older in jobs if older.order < one.order
            }
    mine = [one for one in turns if one.owner_id == ADA]
    assert mine == sorted(mine, key=position)


def test_a_large_job_is_not_starved_by_small_ones() -> None:
    assert decide(Snapshot([job(1, slots=2), job(2)], [host(running=(running(5),))])) == []


def test_a_job_that_fits_no_host_at_all_holds_nobody_back() -> None:
    assert decide(Snapshot([job(1, memory=99), job(2)], [host()])) == [Assign(UUID(int=2), "h")]


def test_a_job_of_eight_gpus_in_front_keeps_one_of_five_busy_hosts_and_no_other() -> None:
    hosts = [
        host(f"h{number}", slots=16, memory=100, gpus=8, running=(running(50 - number, gpus=1),)) for number in range(5)
    ]
    actions = decide(Snapshot([job(0, gpus=8), *(job(1 + number, gpus=1, limit_s=99) for number in range(50))], hosts))
    # h4 is free first; seven GPUs of each of the others are given away.
    assert {action.host for action in actions} == {"h0", "h1", "h2", "h3"}
    assert len(actions) == 4 * 7


def test_the_kept_host_takes_what_ends_before_it_is_needed() -> None:
    snapshot = Snapshot([job(1, slots=2), job(2, limit_s=5.1), job(3, limit_s=5)], [host(running=(running(5),))])
    assert decide(snapshot) == [Assign(UUID(int=3), "h")]


def test_the_kept_host_takes_what_leaves_enough_for_the_job_it_is_kept_for() -> None:
    kept = host(slots=9, gpus=2, running=(running(5, gpus=1),))
    snapshot = Snapshot([job(1, gpus=2), job(2, gpus=1, limit_s=99), job(3, limit_s=99)], [kept])
    assert decide(snapshot) == [Assign(UUID(int=3), "h")]


def test_gpu_jobs_are_packed_so_that_a_whole_host_stays_free() -> None:
    hosts = [host(name, slots=8, gpus=4, memory=100) for name in ("a", "b")]
    small = [job(number, gpus=1) for number in range(4)]
    actions = decide(Snapshot([*small, job(9, gpus=4)], hosts))
    assert [action.host for action in actions] == ["a", "a", "a", "a", "b"]


def test_a_gpu_job_goes_where_the_fewest_gpus_that_suffice_are_free() -> None:
    hosts = [host("a", gpus=8), host("b", gpus=1), host("c", gpus=2)]
    assert decide(Snapshot([job(1, gpus=2)], hosts)) == [Assign(UUID(int=1), "c")]


def test_cpu_jobs_spread_over_empty_hosts_and_leave_hosts_with_gpus_to_those_that_need_them() -> None:
    hosts = [host("a", gpus=1), host("b"), host("c")]
    actions = decide(Snapshot([job(1), job(2), job(3), job(4), job(5)], hosts))
    assert [action.host for action in actions] == ["b", "c", "b", "c", "a"]


def test_a_job_keeps_away_from_a_host_that_could_not_run_it_even_if_the_other_is_busy() -> None:
    hosts = [host("bad", slots=4), host("busy", slots=1, running=(running(5),))]
    avoiding = replace(job(1), avoid_hosts=frozenset({"bad"}))
    assert decide(Snapshot([avoiding, job(2)], hosts)) == [Assign(job(2).job_id, "bad")]


def test_a_job_takes_a_host_that_it_avoids_when_no_other_could_ever_take_it() -> None:
    avoiding = replace(job(1, memory=8), avoid_hosts=frozenset({"bad"}))
    assert decide(Snapshot([avoiding], [host("bad"), host("small", memory=4)])) == [Assign(avoiding.job_id, "bad")]
