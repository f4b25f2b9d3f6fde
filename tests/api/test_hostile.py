"""Hostile files and bodies against a live API: nobody waits, each is refused, the end is clean."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from deploy.embedded.stack import EmbeddedServices
from tests.api.conftest import Api
from tests.api.test_process import environment, wait_until_ready
from tests.hostile.cases import Case, cases
from tests.hostile.live import (
    Watchdog,
    begun_upload,
    children,
    control_command,
    leave_and_dawdle,
    resident_bytes,
    send,
    slowness,
    wait_until,
    warm_up,
)

#: What is allowed: seconds that /healthz may wait, seconds to an answer, seconds to the end.
STALL_S, ANSWER_S, END_S = 0.5, 10.0, 10.0
#: And bytes that the API and the warm parent of its readers may hold more than before, at rest: measured 20 MB.
KEPT_BYTES = 100_000_000

#: A server that computes for two seconds before its first answer.
STALLING = """
import http.server, sys, time
class Busy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        while time.thread_time() < 2: pass
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *arguments): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Busy).serve_forever()
"""


@pytest.fixture
def ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


@pytest.fixture
def process(api: Api, services: EmbeddedServices, ports: tuple[int, int]) -> Iterator[subprocess.Popen[bytes]]:
    # Requests that never end are answers in hand: what they may hold up is what the setting says, 120 s without it.
    settings = environment(api, services, ports[0]) | {"EIGENWERK_DRAIN_S": "3"}
    with (
        subprocess.Popen([sys.executable, "-m", "api"], env=settings, stderr=subprocess.DEVNULL) as started,
        subprocess.Popen(control_command(ports[1])) as control,
    ):
        yield started
        started.kill()
        control.kill()


# A minute alone; its readings have the lowest priority and took over five beside programs that kept both cores busy.
@pytest.mark.timeout(1200)
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
        warm_up(client, hostile, import_id)
        [readers] = children(process.pid)
        before_bytes = resident_bytes(process.pid, readers)
        with Watchdog(url, control_url, process.pid) as watchdog:
            answers = list(senders.map(lambda case: send(client, case, import_id), hostile))
        leave_and_dawdle(ports[0], token, readers, lambda: push_as_another(api, url))
        kept_bytes = resident_bytes(process.pid, readers) - before_bytes
        sockets = [begun_upload(ports[0], token, b"", 1_000_000) for _ in range(20)]
        assert client.get("/healthz").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=END_S * max(1.0, slowness())) == 0
    for connection in sockets:
        connection.close()
    assert [answer for answer in answers if not 400 <= answer[1] < 500] == []
    assert [answer for answer in answers if answer[2] > ANSWER_S] == []
    assert kept_bytes < KEPT_BYTES
    assert watchdog.stall_s < STALL_S


def push_as_another(api: Api, url: str) -> None:
    headers = {"Authorization": f"Bearer {api.new_user('write')}"}
    path = f"{url}/v1/datasets/other?file_name=o.csv"
    answer = httpx.put(path, content=b"a,b\n1,2\n", headers=headers, trust_env=False, timeout=60)
    assert answer.status_code == 201, answer.text


def test_the_watchdog_sees_what_a_process_does_itself(ports: tuple[int, int]) -> None:
    with (
        subprocess.Popen([sys.executable, "-c", STALLING, str(ports[0])]) as stalling,
        subprocess.Popen(control_command(ports[1])) as control,
    ):
        wait_until(lambda: all(listens(port) for port in ports))
        url, control_url = (f"http://127.0.0.1:{port}" for port in ports)
        with Watchdog(url, control_url, stalling.pid) as watchdog:
            wait_until(lambda: len(watchdog.health_s) > 0)
        stalling.kill()
        control.kill()
    assert watchdog.stall_s > STALL_S


def listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
