"""Which queued job starts where. `decide` is a pure function: the same snapshot always gives the same actions.

Order: what an administrator boosted first, then first come first served among owners, each of whom orders the own jobs
by priority (`in_turn`). Jobs start as long as they fit. The first that fits nowhere
gets a *reservation*: the one host that will have room for it first, judged by the time limits of what runs there. The
others behind it go on as if nothing had happened on all other hosts, and on that one too if they will be gone, or
leave enough, when it is needed (EASY backfill: Lifka, "The ANL/IBM SP scheduling system", 1995). So a large job starts
no later than its reservation said, however small the ones that arrive behind it, and no host idles for it but one.

Where a job goes: one with GPUs to the host with the fewest free GPUs that suffice, so that whole hosts stay free for
large jobs; spread out, eight jobs of one GPU would keep an eight-GPU job from every host. One without GPUs goes where
no GPU waits for its slots and memory, and there to the emptiest host: CPU jobs share cores, and one alone on its cores
is faster than two that share them, while no CPU job needs a host whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Resources:
    """What a job takes or a host has: slots, main memory in bytes, whole GPUs."""

    slots: int
    memory_bytes: int
    gpus: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.slots + other.slots, self.memory_bytes + other.memory_bytes, self.gpus + other.gpus)

    def __sub__(self, other: Resources) -> Resources:
        return Resources(self.slots - other.slots, self.memory_bytes - other.memory_bytes, self.gpus - other.gpus)

    def fit(self, room: Resources) -> bool:
        """Whether `room` has this much of everything."""
        return self.slots <= room.slots and self.memory_bytes <= room.memory_bytes and self.gpus <= room.gpus


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued job whose `not_before` has passed. `order` rises with the time of submission."""

    job_id: UUID
    owner_id: UUID
    #: Higher goes before lower ones of the same owner, and before nobody else's.
    priority: int
    order: int
    needs: Resources
    #: Seconds after which it has given its place back, counted from its start.
    time_limit_s: float
    #: Hosts that could not run it a while ago; it goes there only when no other could ever take it.
    avoid_hosts: frozenset[str] = frozenset()
    #: Others of its owner, priority, needs and time limit wait behind it and are not in the snapshot.
    followed: bool = False
    #: What an administrator gave it: the higher one goes before everybody's lower ones.
    boost: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """A job that holds a place."""

    needs: Resources
    #: Seconds from the snapshot until it has given its place back, by its time limit.
    ends_in_s: float


@dataclass(frozen=True, slots=True)
class Host:
    """A live worker: what it has for jobs (without what deployments take), and the jobs that hold places there."""

    name: str
    total: Resources
    running: tuple[Running, ...] = ()
    free: Resources = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "free", _without(self.total, self.running))

    def could_ever_take(self, needs: Resources) -> bool:
        """Whether it fits the empty host."""
        return needs.fit(self.total)

    def can_take(self, needs: Resources) -> bool:
        """Whether it fits what is free now."""
        return needs.fit(self.free)

    def with_job(self, job: Waiting) -> Host:
        """The same host with the job started on it."""
        return replace(self, running=(*self.running, Running(job.needs, job.time_limit_s)))

    def free_in(self, seconds: float) -> Resources:
        """What is free then at the latest, if nothing more starts."""
        return _without(self.total, (job for job in self.running if job.ends_in_s > seconds))

    def has_room_in_s(self, needs: Resources) -> float:
        """Seconds until it fits at the latest, if nothing more starts. Infinite where it can never fit."""
        ends = sorted({job.ends_in_s for job in self.running})
        return next((seconds for seconds in (0.0, *ends) if needs.fit(self.free_in(seconds))), math.inf)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision may depend on."""

    waiting: Sequence[Waiting]
    hosts: Sequence[Host]


@dataclass(frozen=True, slots=True)
class Assign:
    """Start the job on the host."""

    job_id: UUID
    host: str


Action = Assign


@dataclass(frozen=True, slots=True)
class Reservation:
    """A host that is kept for a job which will fit there within `in_s` seconds."""

    host: str
    needs: Resources
    in_s: float

    def allows(self, job: Waiting, host: Host) -> bool:
        """Whether the job may start on the host: it is another one, or the job is gone or leaves enough by then."""
        if host.name != self.host or job.time_limit_s <= self.in_s:
            return True
        return (self.needs + job.needs).fit(host.free_in(self.in_s))


def suited_hosts(job: Waiting, hosts: Iterable[Host]) -> list[Host]:
    """The hosts that could ever take the job, without those that it avoids as long as others are left."""
    able = [host for host in hosts if host.could_ever_take(job.needs)]
    return [host for host in able if host.name not in job.avoid_hosts] or able


def in_turn(waiting: Iterable[Waiting]) -> list[Waiting]:
    """The jobs in the order in which they get a chance.

    Of jobs with the same boost each owner's stand in a line of their own, by priority; of the lines' heads the one that
    was submitted first goes next. So a job that passes older ones of its owner makes them wait, and nobody else.
    """
    lines = sorted(waiting, key=lambda job: (-job.boost, -job.priority, job.order))
    turns: dict[tuple[int, UUID], int] = {}
    keyed = []
    for job in lines:
        line = job.boost, job.owner_id
        # Behind a head that was submitted later even an older job has to wait.
        turns[line] = max(turns.get(line, job.order), job.order)
        keyed.append((-job.boost, turns[line], job))
    return [job for *_, job in sorted(keyed, key=lambda item: item[:2])]


def decide(snapshot: Snapshot) -> list[Action]:
    """The starts that this snapshot allows, in order. Never gives out more slots, memory or GPUs than a host has.

    Ends early when it has started a job that others wait behind unseen: take another snapshot then.
    """
    hosts = {host.name: host for host in sorted(snapshot.hosts, key=lambda host: host.name)}
    reservation: Reservation | None = None
    # What fits nowhere now fits nowhere later on: room only shrinks while this goes on.
    blocked: set[tuple[Resources, float, frozenset[str]]] = set()
    actions: list[Action] = []
    for job in in_turn(snapshot.waiting):
        shape = job.needs, job.time_limit_s, job.avoid_hosts
        if shape in blocked:
            continue
        suited = suited_hosts(job, hosts.values())
        fitting = [
            host
            for host in suited
            if host.can_take(job.needs) and (reservation is None or reservation.allows(job, host))
        ]
        if not fitting:
            blocked.add(shape)
            reservation = reservation or _reserve(job, suited)
            continue
        best = min(fitting, key=lambda host: _preference(job, host, reservation))
        hosts[best.name] = best.with_job(job)
        actions.append(Assign(job_id=job.job_id, host=best.name))
        if job.followed:
            break
    return actions


def _reserve(job: Waiting, suited: Sequence[Host]) -> Reservation | None:
    """The host that will have room for the job first; None where none is large enough: it must hold nobody back."""
    if not suited:
        return None
    in_s, name = min((host.has_room_in_s(job.needs), host.name) for host in suited)
    return Reservation(name, job.needs, in_s)


def _preference(job: Waiting, host: Host, reservation: Reservation | None) -> tuple[bool, float, float, str]:
    """The smallest goes first; the reserved host last."""
    reserved = reservation is not None and reservation.host == host.name
    if job.needs.gpus:
        return reserved, host.free.gpus, host.free.memory_bytes, host.name
    return reserved, host.total.gpus > 0, 1 - host.free.slots / host.total.slots, host.name


def _without(total: Resources, running: Iterable[Running]) -> Resources:
    for job in running:
        total = total - job.needs
    return total
