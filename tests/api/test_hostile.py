"""Hostile files and bodies against a live API: nobody waits, each is refused, the end is clean."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from deploy.embedded.stack import EmbeddedServices
from tests.api.conftest import Api
from tests.api.test_process import environment, wait_until_ready
from tests.hostile.cases import Case, cases

#: What is allowed: seconds that /healthz may wait, seconds to an answer, seconds to the end.
STALL_S, ANSWER_S, END_S = 0.5, 10.0, 10.0
#: A server that does nothing else: how long it needs for the same says how busy the machine is at this moment.
_CONTROL = """
import http.server, sys
class Nothing(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Nothing).serve_forever()
"""


class Watchdog:
    """Asks the API and the control in turn; `stall_s` is by how much the API was slower than the slower neighbour."""

    def __init__(self, url: str, control_url: str) -> None:
        self.stall_s = 0.0
        self._urls = (control_url, f"{url}/healthz")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        with httpx.Client(trust_env=False, timeout=120) as client:
            before_s = self._seconds(client, self._urls[0])
            while not self._done.wait(0.02):
                health_s = self._seconds(client, self._urls[1])
                after_s = self._seconds(client, self._urls[0])
                self.stall_s = max(self.stall_s, health_s - max(before_s, after_s))
                before_s = after_s

    @staticmethod
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


@pytest.fixture
def ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


@pytest.fixture
def process(api: Api, services: EmbeddedServices, ports: tuple[int, int]) -> Iterator[subprocess.Popen[bytes]]:
    settings = environment(api, services, ports[0])
    with (
        subprocess.Popen([sys.executable, "-m", "api"], env=settings, stderr=subprocess.DEVNULL) as started,
        subprocess.Popen([sys.executable, "-c", _CONTROL, str(ports[1])]) as control,
    ):
        yield started
        started.kill()
        control.kill()


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


def half_upload(port: int, token: str) -> socket.socket:
    """A client that announces a file, sends a part of it and says no more."""
    connection = socket.create_connection(("127.0.0.1", port))
    head = f"PUT /v1/datasets/half?file_name=h.csv HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    connection.sendall(f"{head}Content-Length: 1000000\r\n\r\na,b\n".encode())
    return connection


def test_no_request_stops_the_others(api: Api, process: subprocess.Popen[bytes], ports: tuple[int, int]) -> None:
    hostile = cases()
    assert len({case.name for case in hostile}) == len(hostile) >= 120
    url, control_url = (f"http://127.0.0.1:{port}" for port in ports)
    wait_until_ready(url)
    token = api.new_user("write")
    with (
        httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=120
        ) as client,
        ThreadPoolExecutor(2) as senders,
    ):
        import_id = client.post("/v1/registry/imports", json={"name": "hostile"}).json()["id"]
        send(client, Case("warm", "PUT", "/v1/datasets/warm?file_name=w.csv", b"a,b\n1,2\n"), import_id)
        with Watchdog(url, control_url) as watchdog:
            answers = list(senders.map(lambda case: send(client, case, import_id), hostile))
        sockets = [half_upload(ports[0], token) for _ in range(20)]
        assert client.get("/healthz").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=END_S * max(1.0, slowness())) == 0
    for connection in sockets:
        connection.close()
    assert [answer for answer in answers if not 400 <= answer[1] < 500] == []
    assert [answer for answer in answers if answer[2] > ANSWER_S] == []
    assert watchdog.stall_s < STALL_S
