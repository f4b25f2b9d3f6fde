"""A long backlog: from `POST /v1/jobs` to `assigned` with 0, 1,000, 10,000 and 50,000 other jobs waiting.

Those that wait ask for eight GPUs of a host where one is in use: 240 groups of owner, priority and size, none of which
can start. The jobs that are measured need one slot of another host, one at a time. The ratio is of the medians at
10,000 and with an empty queue; at most 1.5 shows that nobody pays for what others have submitted. The sizes come in
turns, round after round, so that a busier machine shows in all of them. The time of a tick that starts one job is
reported beside it; 50 ms at 50,000 is its ceiling.
"""

from __future__ import annotations

import statistics
import time
from uuid import UUID, uuid4

import httpx
from sqlalchemy import create_engine, text

from bench.measuring import report
from bench.queue import SPEC, api, register_inputs
from bench.running_platform import servers
from jobspecs.lifecycle import JobState, Reason
from tests.backlog import add_jobs
from tests.workers.harness import Harness
from workers.scheduler.loop import tick

CEILING = 1.5
#: The size of the ratio, in jobs.
RATIO_AT = 10_000
SIZES = (0, 1000, RATIO_AT, 50_000)
#: Rounds over all sizes, and what is measured of each size in one.
ROUNDS = 3
TICKS, SUBMITS = 15, 31
GIB = 2**30


def main() -> None:
    ticks: dict[int, list[float]] = {size: [] for size in SIZES}
    submits: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
    with servers() as (_, harness), api(harness) as client:
        register_inputs(harness)
        like = occupy(harness)
        for _ in range(ROUNDS):
            for size, earlier in zip(SIZES, (0, *SIZES), strict=False):
                add_jobs(harness.database, like, size - earlier, gpus=8)
                ticks[size] += [tick_s(harness) for _ in range(TICKS)]
                scheduler = harness.start_scheduler()
                submits[size] += [submit_s(harness, client) for _ in range(SUBMITS)]
                harness.stop(scheduler)
            remove_waiting(harness)
    ticks_ms = [1000 * statistics.median(ticks[size]) for size in SIZES]
    submits_ms = [1000 * statistics.median(submit for submit, _ in submits[size]) for size in SIZES]
    assigned_ms = [1000 * statistics.median(assigned for _, assigned in submits[size]) for size in SIZES]
    ours = assigned_ms[SIZES.index(RATIO_AT)]
    report(
        "backlog",
        ours / assigned_ms[0],
        ours,
        assigned_ms[0],
        "ms, median from POST /v1/jobs to assigned with 10,000 jobs waiting and with none",
        {
            "better": "lower",
            "floor": CEILING,
            "waiting": SIZES,
            "assigned_p50_ms": [round(value, 1) for value in assigned_ms],
            "submit_p50_ms": [round(value, 1) for value in submits_ms],
            "tick_p50_ms": [round(value, 1) for value in ticks_ms],
        },
    )


def remove_waiting(harness: Harness) -> None:
    """Empties the queue for the next round and vacuums, or dead rows would be read in place of waiting ones."""
    with harness.database.unit_of_work() as work:
        work.session.execute(text("DELETE FROM jobs WHERE state = 'queued'"))
    engine = create_engine(harness.environment["EIGENWERK_DATABASE_URL"], isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("VACUUM ANALYZE jobs"))
    engine.dispose()


def occupy(harness: Harness) -> UUID:
    """Takes one of eight GPUs, and returns an ended job of eight that others are made like."""
    holder, like = harness.submit("holder", gpus=1), harness.submit("like", gpus=8)
    harness.cancel(like)
    with harness.database.unit_of_work() as work:
        work.jobs.assign(holder, "gpus", lease_s=24 * 3600)
    return like


def announce(harness: Harness) -> None:
    with harness.database.unit_of_work() as work:
        work.hosts.announce("cpus", slots=2, memory_bytes=64 * GIB, gpus=0, accepting=True)
        work.hosts.announce("gpus", slots=8, memory_bytes=64 * GIB, gpus=8, accepting=True)


def tick_s(harness: Harness) -> float:
    """Seconds of a look at the queue that starts one job."""
    announce(harness)
    job = harness.submit("measured")
    began = time.perf_counter()
    started = tick(harness.database, lease_s=3600)
    took = time.perf_counter() - began
    if started != 1:
        raise RuntimeError(f"{started} jobs were started instead of one")
    end(harness, job)
    return took


def submit_s(harness: Harness, client: httpx.Client) -> tuple[float, float]:
    """Seconds until the answer to a submit, and until the job was assigned, both since the request began."""
    announce(harness)
    began, began_at = time.perf_counter(), time.time()
    answer = client.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": str(uuid4())})
    answered_s = time.perf_counter() - began
    answer.raise_for_status()
    row = harness.wait(UUID(answer.json()["id"]), JobState.assigned)
    if row.assigned_at is None:
        raise RuntimeError("an assigned job has no time of it")
    end(harness, row.id)
    # The scheduler has looked at what this end meant before the next request begins.
    time.sleep(0.2)
    return answered_s, row.assigned_at.timestamp() - began_at


def end(harness: Harness, job: UUID) -> None:
    with harness.database.unit_of_work() as work:
        work.jobs.end_attempt(job, reason=Reason.invalid_model, message="measured", actor="bench")


if __name__ == "__main__":
    main()
