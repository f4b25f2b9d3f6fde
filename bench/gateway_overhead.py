"""What the API adds to an engine: the median time of one embedding through the API ÷ from the engine itself.

One client with one connection to each asks both in turn for the vector of a sentence; the same engine process answers
both. MiniLM, one text, floats as JSON from both (`/v1/embeddings`, and the engine's own `/embed`).
"""

from __future__ import annotations

import csv
import itertools
import json
import logging
import statistics
import sys
import time
from pathlib import Path

import httpx

from bench.measuring import report
from bench.served_engine import minilm
from deploy.demo.temporary_platform import temporary_platform
from deploy.embedded.platform import RUNNING_FILE
from eigenwerk import Client
from jobspecs.rights import Reach
from storage.database import Database
from tests.weights import data_path

NAME = "minilm"
REQUESTS, WARM_UP = 400, 40
#: Ours is the larger: the most that passes.
FLOOR = 1.5

_log = logging.getLogger("bench.gateway_overhead")


def main() -> int:
    """Prints the figure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with data_path("stsb/stsb-en-train.csv").open(encoding="utf-8", newline="") as file:
        texts = [row[0] for row in itertools.islice(csv.reader(file), REQUESTS + WARM_UP)]
    with temporary_platform() as (connection, home), Client(connection.url, connection.token) as client:
        client.import_model(minilm(), name=NAME)
        client.deploy(NAME)
        client.await_deployment(NAME)
        with asking(connection.url, str(connection.token)) as api, asking(*engine_of(home)) as engine:
            rounds = [(through(api, text), alone(engine, text)) for text in texts][WARM_UP:]
    ours, theirs = ([1000 * seconds for seconds in column] for column in zip(*rounds, strict=True))
    report(
        "bench.gateway_overhead",
        statistics.median(ours) / statistics.median(theirs),
        statistics.median(ours),
        statistics.median(theirs),
        "ms",
        {
            "floor": FLOOR,
            "better": "lower",
            "requests": REQUESTS,
            "added_ms_p50": round(statistics.median(both - one for both, one in zip(ours, theirs, strict=True)), 2),
            "p95_ms": round(statistics.quantiles(ours, n=20)[-1], 2),
            "p95_ms_alone": round(statistics.quantiles(theirs, n=20)[-1], 2),
            "texts": "a sentence of STS-B each",
            "model": "MiniLM-L6",
        },
    )
    return 0


def asking(url: str, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)


def engine_of(home: Path) -> tuple[str, str]:
    """Where the deployment's engine listens, and its key."""
    database = Database(json.loads((home / RUNNING_FILE).read_text())["EIGENWERK_DATABASE_URL"])
    with database.unit_of_work() as work:
        row = work.deployments.find(Reach.of(work.users.ensure("admin").id), NAME)
    database.close()
    if row is None or row.endpoint is None or row.endpoint_key is None:
        raise SystemExit(f"{NAME} is not answered for")
    return row.endpoint, row.endpoint_key


def through(api: httpx.Client, text: str) -> float:
    """Seconds through the API."""
    begun = time.perf_counter()
    answer = api.post("/v1/embeddings", json={"model": NAME, "input": text}).raise_for_status().json()
    assert len(answer["data"][0]["embedding"]) > 0
    return time.perf_counter() - begun


def alone(engine: httpx.Client, text: str) -> float:
    """Seconds from the engine."""
    begun = time.perf_counter()
    answer = engine.post("/embed", json={"inputs": text}).raise_for_status().json()
    assert len(answer[0]) > 0
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
