"""The queue: `POST /v1/jobs` with Redis stopped against the same with Redis, and claims per second by 16 claimants.

The ratio is of the 99th percentiles of the latency of a submit over HTTP; at most 1.2 shows that no request waits for
Redis. Requests with and without Redis come in turns of a few hundred. Redis is frozen, not absent: that is the worse
case, for connections to it hang instead of being refused. Double claims end the run with an error.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import secrets
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID, uuid4

import httpx

from bench.measuring import report
from bench.running_platform import servers
from deploy.embedded.processes import free_port
from deploy.embedded.stack import EmbeddedServices
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.profile import ColumnProfile, DatasetProfile
from storage.database import Database
from tests.workers.harness import Harness

CEILING = 1.2
ROUNDS = 4
REQUESTS_PER_ROUND = 250
CLAIMANTS = 16
PROCESSES = 4
CLAIM_S = 8.0
#: More than 16 claimants can take in the time.
JOBS_TO_CLAIM = 6000

#: Its inputs are made by `register_inputs`.
SPEC = {
    "kind": "train-classifier",
    "name": "queued",
    "model": "base@1",
    "dataset": "rows@1",
    "text": "text",
    "label": "label",
}


def main() -> None:
    with servers() as (services, harness):
        register_inputs(harness)
        with_redis, without = submit_latencies(services, harness)
        one, doubles_one = claims_per_s(harness, 1)
        many, doubles_many = claims_per_s(harness, CLAIMANTS)
    if doubles_one or doubles_many:
        sys.exit(f"{doubles_one + doubles_many} jobs were claimed twice")
    ours, baseline = percentile(without, 99), percentile(with_redis, 99)
    report(
        "queue",
        ours / baseline,
        ours * 1000,
        baseline * 1000,
        "ms, 99th percentile of POST /v1/jobs without and with Redis",
        {
            "better": "lower",
            "floor": CEILING,
            "requests": len(without),
            "p50_ms_without_and_with": [round(statistics.median(values) * 1000, 2) for values in (without, with_redis)],
            "claims_per_s_by_16": round(many),
            "claims_per_s_by_1": round(one),
            "double_claims": 0,
        },
    )


def submit_latencies(services: EmbeddedServices, harness: Harness) -> tuple[list[float], list[float]]:
    """Seconds per submit: with Redis, and with Redis frozen."""
    with_redis: list[float] = []
    without: list[float] = []
    harness.start_scheduler()
    with api(harness) as client:
        post(client, REQUESTS_PER_ROUND)
        for _ in range(ROUNDS):
            with_redis.extend(post(client, REQUESTS_PER_ROUND))
            services.redis.pause()
            try:
                without.extend(post(client, REQUESTS_PER_ROUND))
            finally:
                services.redis.resume()
    for process in harness.processes:
        process.kill()
    return with_redis, without


@contextmanager
def api(harness: Harness) -> Iterator[httpx.Client]:
    token = f"ew_{secrets.token_urlsafe(32)}"
    with harness.database.unit_of_work() as work:
        user = work.users.ensure("tester")
        work.users.add_token(user.id, token, scopes=("read", "write"))
    port = free_port()
    environment = {"EIGENWERK_API_HOST": "127.0.0.1", "EIGENWERK_API_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-m", "api"], env={**os.environ, **harness.environment, **environment})
    harness.processes.append(process)
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}, timeout=30
    ) as client:
        for _ in range(300):
            try:
                if client.get("/healthz").status_code == httpx.codes.OK:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield client


def post(client: httpx.Client, count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        answer = client.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": str(uuid4())})
        seconds.append(time.perf_counter() - began)
        answer.raise_for_status()
    return seconds


def register_inputs(harness: Harness) -> None:
    """A data set and a model that exist in the database only: nothing here reads them."""
    sha256 = hashlib.sha256(b"").hexdigest()
    text = ColumnProfile(kind="text", empty=0, distinct=10, longest_chars=9, mean_chars=9)
    label = ColumnProfile(kind="text", empty=0, distinct=2, values={"a": 5, "b": 5}, longest_chars=1, mean_chars=1)
    manifest = Manifest(
        artifact="model",
        files=(ManifestFile(path="model.safetensors", bytes=1000, sha256=sha256),),
    )
    with harness.database.unit_of_work() as work:
        owner = work.users.ensure("tester")
        work.datasets.add_version(
            owner.id,
            "rows",
            version_id=uuid4(),
            file_name="rows.csv",
            key="datasets/bench/data.csv",
            bytes_total=0,
            sha256=sha256,
            profile=DatasetProfile(rows=10, columns={"text": text, "label": label}),
        )
        work.models.add_version(owner.id, "base", manifest=manifest, prefix="models/bench")
    harness.prepare_inputs()


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def claims_per_s(harness: Harness, claimants: int) -> tuple[float, int]:
    """Claims per second of that many claimants at once, and how many jobs were claimed more than once."""
    jobs = [harness.submit("claim") for _ in range(min(JOBS_TO_CLAIM, 150 * claimants + 1000))]
    processes = min(PROCESSES, claimants)
    context = multiprocessing.get_context("spawn")
    url = harness.environment["EIGENWERK_DATABASE_URL"]
    with context.Pool(processes) as pool:
        arguments = [(url, jobs, claimants // processes, seed) for seed in range(processes)]
        answers = pool.starmap(claim_for_a_while, arguments)
    claimed = Counter(job for got, _ in answers for job in got)
    seconds = max(took for _, took in answers)
    return sum(claimed.values()) / seconds, sum(count > 1 for count in claimed.values())


def claim_for_a_while(url: str, jobs: list[UUID], threads: int, seed: int) -> tuple[list[UUID], float]:
    """Claims until the time is up or nothing is left. All claimants go for the same jobs, in orders of their own."""
    database = Database(url, connections_max=threads)
    barrier = threading.Barrier(threads)

    def claim(number: int) -> list[UUID]:
        order = list(jobs)
        random.Random(seed * 1000 + number).shuffle(order)
        got = []
        barrier.wait()
        deadline = time.monotonic() + CLAIM_S
        for job_id in order:
            if time.monotonic() > deadline:
                break
            with database.unit_of_work() as work:
                if work.jobs.assign(job_id, f"host-{seed}-{number}", lease_s=3600) is not None:
                    got.append(job_id)
        return got

    began = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        claimed = [job for got in pool.map(claim, range(threads)) for job in got]
    took = time.monotonic() - began
    database.close()
    return claimed, took


if __name__ == "__main__":
    main()
