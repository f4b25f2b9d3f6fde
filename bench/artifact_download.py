"""How near a download by the plain URL comes to the object store's own: MB/s through the redirect ÷ direct.

Both are curl, to a file on the disk, in turn; before, the store has put the pieces of the file together once. Beside
it, in the same run, the ratio to min(disk, loopback): `of_limit`, with a floor of its own.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.artifact_reupload import http_of
from bench.artifact_upload import BLOCK_BYTES, receive_all
from bench.measuring import report
from deploy.demo.temporary_platform import temporary_platform
from eigenwerk import Client, Connection

BLOCKS = 32
FILE_BYTES = BLOCKS * BLOCK_BYTES
ROUNDS = 3
FLOOR = 0.95
FLOOR_OF_LIMIT = 0.5


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="eigenwerk-bench-") as name, temporary_platform() as (connection, _):
        measure(connection, Path(name))


def measure(connection: Connection, folder: Path) -> None:
    url, block, target = pushed(connection, folder), os.urandom(BLOCK_BYTES), folder / "got"
    curl(url, target, connection.token)
    disk, loopback, direct, redirected = [], [], [], []
    for _ in range(ROUNDS):
        disk.append(mb_per_s(lambda: write(folder / "copy", block)))
        loopback.append(mb_per_s(lambda: send(block)))
        store = location(connection, url)
        direct.append(mb_per_s(partial(curl, store, target)))
        redirected.append(mb_per_s(lambda: curl(url, target, connection.token)))
    speed, own = statistics.median(redirected), statistics.median(direct)
    limit = min(statistics.median(disk), statistics.median(loopback))
    conditions = {
        "floor": FLOOR,
        "of_limit": round(speed / limit, 3),
        "floor_of_limit": FLOOR_OF_LIMIT,
        "file_bytes": FILE_BYTES,
        "rounds": ROUNDS,
        "disk_mb_per_s": [round(value) for value in disk],
        "loopback_mb_per_s": [round(value) for value in loopback],
        "direct_mb_per_s": [round(value) for value in direct],
        "redirected_mb_per_s": [round(value) for value in redirected],
    }
    report("artifact_download", speed / own, speed, own, "MB/s", conditions)
    if speed / limit < FLOOR_OF_LIMIT:
        raise SystemExit(f"{speed:.0f} MB/s are less than {FLOOR_OF_LIMIT} of min(disk, loopback), {limit:.0f} MB/s")


def pushed(connection: Connection, folder: Path) -> str:
    """The plain URL of a file of FILE_BYTES and a header."""
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "bert"}')
    header = json.dumps({"w": {"dtype": "U8", "shape": [FILE_BYTES], "data_offsets": [0, FILE_BYTES]}}).encode()
    with (model / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for _ in range(BLOCKS):
            file.write(os.urandom(BLOCK_BYTES))
    with Client(connection.url, connection.token) as client:
        version = client.import_model(model, name="large")
    path = f"/v1/registry/models/{version.owner}/large/versions/{version.version}/files/model.safetensors"
    return f"{connection.url}{path}"


def location(connection: Connection, url: str) -> str:
    with http_of(connection) as http:
        return http.get(url, follow_redirects=False).headers["Location"]


def curl(url: str, target: Path, token: str | None = None) -> None:
    headers = ["-H", f"Authorization: Bearer {token}"] if token else []
    subprocess.run(["curl", "-sSfL", "--noproxy", "*", *headers, "-o", str(target), url], check=True)
    if target.stat().st_size < FILE_BYTES:
        raise SystemExit(f"{url} gave {target.stat().st_size} bytes")


def mb_per_s(transfer: Callable[[], object]) -> float:
    """With nothing of the measurement before left to write."""
    os.sync()
    began = time.perf_counter()
    transfer()
    return FILE_BYTES / 1e6 / (time.perf_counter() - began)


def write(path: Path, block: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        for _ in range(BLOCKS):
            file.write(block)
        os.fsync(file.fileno())
    path.unlink()


def send(block: bytes) -> None:
    """One TCP connection, read by another thread into one buffer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver = threading.Thread(target=receive_all, args=(listener,))
        receiver.start()
        with socket.create_connection(listener.getsockname()) as connection:
            for _ in range(BLOCKS):
                connection.sendall(block)
        receiver.join()


if __name__ == "__main__":
    main()
