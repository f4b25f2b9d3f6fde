"""A live API under hostile requests: how long others wait, and clients that leave or dawdle."""

from __future__ import annotations

import gzip
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import httpx

from tests.hostile.cases import Case

#: A server that does nothing else: how long it needs for the same says how busy the machine is at this moment.
_CONTROL = """
import http.server, sys
class Nothing(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Nothing).serve_forever()
"""


def control_command(port: int) -> list[str]:
    return [sys.executable, "-c", _CONTROL, str(port)]


class Watchdog:
    """Asks the API and the control in turn; `stall_s` is by how much the API was slower than the slower neighbour,
    less the time that its event loop was ready and the machine had no core for it.

    The control alone does not tell how busy the machine is for somebody who works: the kernel favours whoever slept.
    On a quiet machine that wait is nothing. Work on the event loop, or of another thread that holds the interpreter, is
    none either. `health_s` and `control_s` are all times that they needed, in turn.
    """

    def __init__(self, url: str, control_url: str, pid: int) -> None:
        self.stall_s = 0.0
        self.health_s: list[float] = []
        self.control_s: list[float] = []
        self._urls = (control_url, f"{url}/healthz")
        #: Of the main thread, which runs the event loop: nanoseconds on a core, nanoseconds ready without one, turns.
        self._schedule = Path(f"/proc/{pid}/schedstat")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        with httpx.Client(trust_env=False, timeout=120) as client:
            before_s = _seconds(client, self._urls[0])
            while not self._done.wait(0.02):
                coreless_s = self._coreless_s()
                health_s = _seconds(client, self._urls[1])
                coreless_s = self._coreless_s() - coreless_s
                after_s = _seconds(client, self._urls[0])
                self.stall_s = max(self.stall_s, health_s - coreless_s - max(before_s, after_s))
                self.health_s.append(health_s)
                self.control_s.append(after_s)
                before_s = after_s

    def _coreless_s(self) -> float:
        return int(self._schedule.read_text(encoding="ascii").split()[1]) / 1e9


def _seconds(client: httpx.Client, url: str) -> float:
    began_s = time.monotonic()
    assert client.get(url).status_code == 200
    return time.monotonic() - began_s


def slowness() -> float:
    """How many times longer work takes by the clock than by the CPU: 1 on a quiet machine."""
    began_s, began_cpu_s = time.monotonic(), time.thread_time()
    while time.thread_time() - began_cpu_s < 0.1:
        pass
    return (time.monotonic() - began_s) / 0.1


def send(client: httpx.Client, case: Case, import_id: str) -> tuple[str, int, float]:
    """Name, status and seconds by the clock, over how slow the machine was meanwhile."""
    slow = slowness()
    began_s = time.monotonic()
    path = case.path.replace("{import_id}", import_id)
    answer = client.request(case.method, path, content=case.content, headers={"Content-Type": case.content_type})
    seconds = time.monotonic() - began_s
    if 400 <= answer.status_code < 500:
        assert answer.json()["error"]["message"], case.name
    return case.name, answer.status_code, seconds / max(slow, slowness(), 1.0)


def warm_up(client: httpx.Client, hostile: list[Case], import_id: str) -> None:
    """Sends something small wherever a hostile thing will go, so that every library is loaded."""
    for path, method in {case.path: case.method for case in hostile}.items():
        client.request(method, path.replace("{import_id}", import_id), content=b'{"a":1}')


def begun_upload(port: int, token: str, content: bytes, of_bytes: int) -> socket.socket:
    """A client that announces `of_bytes` of a file, has sent `content`, and says no more."""
    connection = socket.create_connection(("127.0.0.1", port))
    head = f"PUT /v1/datasets/half?file_name=h.csv.gz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    connection.sendall(f"{head}Content-Length: {of_bytes}\r\n\r\n".encode() + content)
    return connection


def leave_and_dawdle(port: int, token: str, readers: int, meanwhile: Callable[[], None]) -> None:
    """Clients that send a part byte by byte while `meanwhile` runs, and clients that leave: all in the middle of their
    uploads, and one while its file, which would take 15 s, is read by a child of the process `readers`."""
    slow = gzip.compress(b"a,b\n" + b"1,2\n" * 2_000_000)
    for _ in range(5):
        begun_upload(port, token, slow[:1000], len(slow)).close()
    dawdling = [begun_upload(port, token, b"", len(slow)) for _ in range(5)]
    for sent in range(10):
        for connection in dawdling:
            connection.sendall(slow[sent : sent + 1])
        time.sleep(0.05)
    with begun_upload(port, token, slow, len(slow)):
        wait_until(lambda: children(readers) != [])
        meanwhile()
    for connection in dawdling:
        connection.close()
    wait_until(lambda: children(readers) == [])


def wait_until(reached: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """Processes that this one has started and not waited for."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text(encoding="ascii").split()]


def resident_bytes(*pids: int) -> int:
    """What these processes hold together; of a page that several share each has its part."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii") for pid in pids]
    return sum(int(line.split()[1]) * 1024 for text in rollups for line in text.splitlines() if line.startswith("Pss:"))
