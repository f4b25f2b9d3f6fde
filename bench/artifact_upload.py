"""How near the upload of an artifact comes to the machine: MB/s with sha256 ÷ min(disk, loopback), in the same run.

The server is the embedded one, on the same disk and the same cores: about 8 CPU-seconds per GB, which on 2 cores is the
limit; the sender takes about 1. So the ratio falls when something else uses the cores; see the loads in the result.

Each round measures, in turn: writing as many bytes to the disk with fsync, sending them over one loopback TCP
connection, and the upload. Medians are compared, for a virtual disk is fast in bursts and slow after them.

What helped: no signature over the payload, which SeaweedFS doesn't check anyway, but CRC32 per part, which it does
check (190 to 250 MB/s instead of 130 to 180). What did not: obstore (Rust) instead of Python threads (156 to 243);
parts of 16 or 32 MiB, or 2, 3 or 8 at a time, instead of 4 of 8 MiB (no faster, more memory); a server with more
memory (GOGC=400 or GOMEMLIMIT=4GiB), larger volumes or larger filer chunks (within the noise).
"""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.measuring import report
from deploy.embedded.home import open_home
from deploy.embedded.objects import objects_server
from storage.objects import ObjectSettings, ObjectStore

ARTIFACT_BYTES = 1_000_000_000
BLOCK_BYTES = 8 * 1024 * 1024
ROUNDS = 5
FLOOR = 0.5


def main() -> None:
    # Beside the system's temporary files; the disk that is measured is the disk that the server writes to.
    with tempfile.TemporaryDirectory(prefix="eigenwerk-bench-") as folder:
        artifact = Path(folder) / "model.safetensors"
        write_random(artifact)
        server, access = objects_server(open_home(Path(folder) / "home"))
        server.launch()
        try:
            server.wait_until_ready()
            settings = ObjectSettings(access.endpoint, access.access_key, access.secret_key, access.bucket)
            measure(ObjectStore(settings), artifact)
        finally:
            server.stop()


def measure(store: ObjectStore, artifact: Path) -> None:
    disk, loopback, ours, cpu_s = [], [], [], []
    block = os.urandom(BLOCK_BYTES)
    for _ in range(ROUNDS):
        disk.append(mb_per_s(lambda: write_to_disk(artifact.with_suffix(".copy"), block)))
        loopback.append(mb_per_s(lambda: send_over_loopback(block)))
        cpu_before_s = time.process_time()
        ours.append(mb_per_s(lambda: store.upload_file(artifact, "bench/artifact")))
        cpu_s.append(time.process_time() - cpu_before_s)
        store.delete("bench/artifact")
    limit = min(statistics.median(disk), statistics.median(loopback))
    speed = statistics.median(ours)
    conditions = {
        "floor": FLOOR,
        "artifact_bytes": ARTIFACT_BYTES,
        "rounds": ROUNDS,
        "disk_mb_per_s": [round(value) for value in disk],
        "loopback_mb_per_s": [round(value) for value in loopback],
        "upload_mb_per_s": [round(value) for value in ours],
        "sender_cpu_s_per_gb": round(statistics.median(cpu_s) * 1e9 / ARTIFACT_BYTES, 2),
        "part_bytes": store.settings.part_bytes,
        "parallel_parts": store.settings.parallel_parts,
        "server": "weed mini, same machine and disk",
    }
    report("artifact_upload", speed / limit, speed, limit, "MB/s", conditions)


def mb_per_s(transfer: Callable[[], object]) -> float:
    """The speed of moving the artifact's bytes once, with nothing of the measurement before left to write."""
    os.sync()
    began = time.perf_counter()
    transfer()
    return ARTIFACT_BYTES / 1e6 / (time.perf_counter() - began)


def write_random(path: Path) -> None:
    with path.open("wb") as file:
        for length in blocks():
            file.write(os.urandom(length))
        file.flush()
        os.fsync(file.fileno())


def write_to_disk(path: Path, block: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        for length in blocks():
            file.write(memoryview(block)[:length])
        os.fsync(file.fileno())
    path.unlink()


def send_over_loopback(block: bytes) -> None:
    """One TCP connection, read by another thread into one buffer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver = threading.Thread(target=receive_all, args=(listener,))
        receiver.start()
        with socket.create_connection(listener.getsockname()) as connection:
            for length in blocks():
                connection.sendall(memoryview(block)[:length])
        receiver.join()


def receive_all(listener: socket.socket) -> None:
    buffer = bytearray(1024 * 1024)
    connection, _ = listener.accept()
    with connection:
        while connection.recv_into(buffer):
            pass


def blocks() -> list[int]:
    """The lengths of the blocks that make up the artifact."""
    whole, rest = divmod(ARTIFACT_BYTES, BLOCK_BYTES)
    return [BLOCK_BYTES] * whole + ([rest] if rest else [])


if __name__ == "__main__":
    main()
