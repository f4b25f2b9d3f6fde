"""How much a push sends after one tensor in twenty has changed: bytes sent ÷ bytes of the model.

Beside it, in the same run, what pieces cost: seconds of a push in pieces and of one that sends each file whole, of a
pull in parts and of one plain URL, first (the store puts the pieces together then) and again.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from safetensors.numpy import save_file

from bench.measuring import report
from deploy.demo.temporary_platform import temporary_platform
from eigenwerk import Client, Connection
from eigenwerk.files.transfers import file_body, upload_headers

TENSORS = 20
TENSOR_BYTES = 6_000_000
ROUNDS = 3
CEILING = 0.15


class Counting(httpx.HTTPTransport):
    """Counts the bytes of bodies as they are sent."""

    sent = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += int(request.headers.get("Content-Length") or 0)
        return super().handle_request(request)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="eigenwerk-bench-") as name, temporary_platform() as (connection, _):
        measure(connection, Path(name))


def measure(connection: Connection, folder: Path) -> None:
    shares: list[float] = []
    seconds: dict[str, list[float]] = {}

    def timed(what: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        done = work()
        seconds.setdefault(what, []).append(round(time.perf_counter() - began, 3))
        return done

    for number in range(ROUNDS):
        model = folder / f"model-{number}"
        weights = random_model(model)
        with client_of(connection, Counting()) as client:
            version = timed("push in pieces", partial(client.import_model, model, name="m"))
        change_one_tensor(model, weights)
        wire = Counting()
        with client_of(connection, wire) as client:
            timed("push of what changed", partial(client.import_model, model, name="m"))
            timed("pull in parts", partial(client.download, version.reference, folder / f"pulled-{number}"))
        shares.append(wire.sent / sum(file.stat().st_size for file in model.iterdir()))
        path = f"/v1/registry/models/{version.owner}/m/versions/{version.version}/files/model.safetensors"
        for what in ("plain URL, first", "plain URL, again"):
            timed(what, partial(fetch, connection, path))
        random_model(model)
        timed("push of whole files", partial(push_whole, connection, model))
    share = statistics.median(shares)
    conditions = {
        "floor": CEILING,
        "better": "lower",
        "model_bytes": TENSORS * TENSOR_BYTES,
        "tensors": TENSORS,
        "rounds": ROUNDS,
        "seconds": seconds,
    }
    report("artifact_reupload", share, share, 1.0, "bytes sent ÷ bytes of the model", conditions)


def random_model(folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    weights = {f"layer.{number:02d}": np.frombuffer(os.urandom(TENSOR_BYTES), np.float32) for number in range(TENSORS)}
    (folder / "config.json").write_text('{"model_type": "bert"}')
    save_file(weights, folder / "model.safetensors")
    return weights


def change_one_tensor(folder: Path, weights: dict[str, Any]) -> None:
    changed = np.frombuffer(os.urandom(TENSOR_BYTES), np.float32)
    save_file({**weights, "layer.11": changed}, folder / "model.safetensors")


def client_of(connection: Connection, wire: Counting) -> Client:
    return Client(connection.url, connection.token, http=wire)


def http_of(connection: Connection) -> httpx.Client:
    headers = {"Authorization": f"Bearer {connection.token}"}
    return httpx.Client(base_url=connection.url, headers=headers, trust_env=False, timeout=300, follow_redirects=True)


def fetch(connection: Connection, path: str) -> None:
    with http_of(connection) as http, http.stream("GET", path) as answer:
        answer.raise_for_status()
        for _ in answer.iter_bytes(1 << 20):
            continue


def push_whole(connection: Connection, model: Path) -> None:
    with http_of(connection) as http:
        opened = f"/v1/registry/imports/{http.post('/v1/registry/imports', json={'name': 'w'}).json()['id']}"
        for file in model.iterdir():
            url = f"{opened}/files/{file.name}"
            http.put(url, headers=upload_headers(file), content=file_body(file)()).raise_for_status()
        http.post(f"{opened}/complete").raise_for_status()


if __name__ == "__main__":
    main()
