"""TLS in front of engines, at an address of its own: loopback has a whole network of them."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.loopback import serving
from workers.inference.certificates import Authority
from workers.inference.front import Front

BODY = b"answer " * 100_000


def certificate_and_context(address: str) -> tuple[str, ssl.SSLContext]:
    """What to trust, and what a server at the address uses."""
    authority, context = Authority(address), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.load_leaf(context)
    return authority.certificate, context


class Engine(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if self.headers["Authorization"] == "Bearer key" else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *told: object) -> None: ...


@pytest.fixture
def engine() -> Iterator[str]:
    with serving(Engine) as url:
        yield url


@pytest.fixture
def front() -> Iterator[Front]:
    made = Front("127.0.0.2")
    yield made
    made.close()


def client(front: Front) -> httpx.Client:
    return httpx.Client(verify=ssl.create_default_context(cadata=front.certificate), trust_env=False, timeout=30)


def test_engines_are_reached_by_tls_at_the_address_of_their_host_with_their_own_key(engine: str, front: Front) -> None:
    endpoint = front.endpoint(engine)
    assert endpoint.startswith("https://127.0.0.2:")
    assert front.endpoint(engine) == endpoint
    with client(front) as asking:
        answers = [
            asking.post(endpoint, content=BODY, headers={"Authorization": f"Bearer {key}"}) for key in ("key", "no")
        ]
    assert [(answer.status_code, answer.content == BODY) for answer in answers] == [(200, True), (401, True)]


def test_a_front_without_its_engine_looks_as_if_nobody_listened(front: Front) -> None:
    with client(front) as asking, pytest.raises(httpx.TransportError):
        asking.post(front.endpoint("http://127.0.0.1:9"))


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_who_says_nothing_is_cut_and_who_has_asked_goes_on(engine: str, front: Front) -> None:
    endpoint = front.endpoint(engine)
    place = ("127.0.0.2", httpx.URL(endpoint).port)
    headers = {"Authorization": "Bearer key"}
    with client(front) as asking, contextlib.ExitStack() as opened:
        assert asking.post(endpoint, content=b"1", headers=headers).status_code == 200
        (connected,) = front._connections
        front._headers_s = 0.3
        silent, slow = (opened.enter_context(socket.create_connection(place, timeout=30)) for _ in range(2))
        trusting = ssl.create_default_context(cadata=front.certificate)
        with contextlib.suppress(OSError):
            slow = opened.enter_context(trusting.wrap_socket(slow, server_hostname="127.0.0.2"))
            slow.sendall(b"POST / HTTP/1.1\r\nHost: ")
        assert ended(silent) and ended(slow)
        assert asking.post(endpoint, content=b"2", headers=headers).status_code == 200
        assert connected in front._connections and not connected.done(), "it is the connection of before"


def test_headers_of_a_later_request_that_trickle_are_cut_and_answers_may_take_their_time(front: Front) -> None:
    class Slow(Engine):
        def do_POST(self) -> None:
            time.sleep(1.0)
            super().do_POST()

    trusting = ssl.create_default_context(cadata=front.certificate)
    request = b"POST / HTTP/1.1\r\nHost: e\r\nAuthorization: Bearer key\r\nContent-Length: 2\r\n\r\n"
    with serving(Slow) as engine:
        place = ("127.0.0.2", httpx.URL(front.endpoint(engine)).port)
        with trusting.wrap_socket(socket.create_connection(place, timeout=30), server_hostname="127.0.0.2") as asking:
            front._headers_s = 0.5
            # A body may come in pieces too, and two requests in one.
            for piece in (request, b"a", b"b" + request + b"cd"):
                asking.sendall(piece)
            received = b""
            while received.count(b"200 OK") < 2 or not received.endswith(b"cd"):
                received += asking.recv(4096)
            sent = 0
            with contextlib.suppress(OSError):
                for sent in range(400):
                    asking.sendall(b"POST"[sent : sent + 1] or b"O")
                    time.sleep(0.05)
            assert sent < 399 and ended(asking)


def test_more_connections_than_a_host_takes_are_refused_at_once(engine: str) -> None:
    front = Front("127.0.0.2", connections_max=2)
    endpoint = front.endpoint(engine)
    place = ("127.0.0.2", httpx.URL(endpoint).port)
    with client(front) as asking, contextlib.ExitStack() as opened:
        taken = [opened.enter_context(socket.create_connection(place, timeout=30)) for _ in range(3)]
        assert ended(taken[2])
        taken[0].close()
        deadline_s = time.monotonic() + 30
        while len(front._connections) > 1 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        headers = {"Authorization": "Bearer key"}
        assert asking.post(endpoint, content=b"1", headers=headers).status_code == 200
    front.close()


def test_what_is_no_longer_served_is_no_longer_reached_and_what_is_elsewhere_is_left_there(
    engine: str, front: Front
) -> None:
    assert front.endpoint("http://10.0.0.5:8000") == "http://10.0.0.5:8000"
    endpoint = front.endpoint(engine)
    front.keep(())
    front.endpoint("http://127.0.0.1:9")  # it goes through the same loop, after the closing
    with client(front) as asking, pytest.raises(httpx.ConnectError):
        asking.post(endpoint, content=b"")


def test_a_renewed_certificate_is_believed_by_who_trusts_the_host_already(engine: str, front: Front) -> None:
    with client(front) as asking:
        headers = {"Authorization": "Bearer key", "Connection": "close"}
        assert asking.post(front.endpoint(engine), content=b"1", headers=headers).status_code == 200
        front._renewed_at_s = float("-inf")
        assert asking.post(front.endpoint(engine), content=b"2", headers=headers).status_code == 200


def test_an_address_that_is_not_this_machines_is_refused() -> None:
    with pytest.raises(OSError, match="assign"):
        Front("192.0.2.1")
