"""What many clients at once gain: answers a second of an engine asked by 32 clients ÷ asked by one at a time.

A classifier and an embedder of MiniLM's size, each in an engine of one thread; each request has one headline. `ratio`
is the smaller of the two.
"""

from __future__ import annotations

import csv
import itertools
import json
import logging
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import urllib3

from bench.measuring import report
from bench.served_engine import ServedEngine, minilm, write_minilm_with_head
from tests.weights import data_path

CLIENTS = 32
#: Of one client, and of all together, in each round.
ALONE, TOGETHER = 60, 480
ROUNDS = 7
FLOOR = 3.0

_log = logging.getLogger("bench.request_batching")


class Asker:
    """One client, with one connection that it keeps."""

    def __init__(self, engine: ServedEngine, path: str) -> None:
        url = engine.client.base_url
        self._headers = dict(engine.client.headers) | {"Content-Type": "application/json"}
        self._pool = urllib3.HTTPConnectionPool(url.host, url.port, maxsize=1, headers=self._headers, retries=False)
        self._path = path

    def ask(self, bodies: Sequence[bytes]) -> None:
        for body in bodies:
            answer = self._pool.request("POST", self._path, body=body)
            if answer.status != 200:
                raise SystemExit(f"{self._path} answered {answer.status}: {answer.data[:200]!r}")


def answers_s(askers: Sequence[Asker], bodies: Sequence[bytes]) -> float:
    """Answers a second of so many clients at once, each with its share of the requests."""
    shares = [bodies[place :: len(askers)] for place in range(len(askers))]
    with ThreadPoolExecutor(len(askers)) as threads:
        begun = time.perf_counter()
        list(threads.map(Asker.ask, askers, shares))
        return len(bodies) / (time.perf_counter() - begun)


def measure(engine: ServedEngine, path: str, bodies: Sequence[bytes]) -> list[tuple[float, float]]:
    """Of each round: answers a second of one client, and of all."""
    askers = [Asker(engine, path) for _ in range(CLIENTS)]
    rounds = []
    for turn in range(ROUNDS + 1):  # in turns, so that a busy machine slows both
        found = answers_s(askers[:1], bodies[:ALONE]), answers_s(askers, bodies)
        _log.info("%s: one client %.0f, %d clients %.0f answers/s", path, found[0], CLIENTS, found[1])
        if turn:  # the first warms up
            rounds.append(found)
    return rounds


def main() -> int:
    """Prints the figure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with data_path("stsb/stsb-en-train.csv").open(encoding="utf-8", newline="") as file:
        texts = [row[0] for row in itertools.islice(csv.reader(file), TOGETHER)]
    bodies = [json.dumps({"inputs": [text]}).encode() for text in texts]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        classifier = write_minilm_with_head(root / "classifier", 2)
        embedder = shutil.copytree(minilm(), root / "embedder")
        shares = {}
        for path, task, folder in (
            ("/classify", "text-classification", classifier),
            ("/encode", "sentence-similarity", embedder),
        ):
            engine = ServedEngine("embedded", task, folder, root / "logs")
            shares[path] = measure(engine, path, bodies)
            engine.close()
    ratios = {path: statistics.median(all_s / one_s for one_s, all_s in rounds) for path, rounds in shares.items()}
    worst = min(ratios, key=lambda path: ratios[path])
    alone, together = (statistics.median(column) for column in zip(*shares[worst], strict=True))
    report(
        "bench.request_batching",
        ratios[worst],
        together,
        alone,
        "answers/s",
        {
            "floor": FLOOR,
            "clients": CLIENTS,
            "classifier": round(ratios["/classify"], 3),
            "embedder": round(ratios["/encode"], 3),
            "requests_of_one": ALONE,
            "requests_of_all": TOGETHER,
            "rounds": ROUNDS,
            "texts": "a sentence of STS-B each",
            "threads_of_engine": 1,
            "model": "MiniLM-L6",
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
