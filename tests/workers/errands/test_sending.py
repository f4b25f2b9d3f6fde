"""One request to a server that means no good."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

from jobspecs.addresses import Address, AddressRules
from tests.certificates import certificate_in
from tests.workers.errands.receiver import Receiver
from workers.errands.sending import Sender

LOOPBACK = AddressRules.parse("127.0.0.1")


class Names:
    """A resolver whose answers change: each call gives the next one, then the last one again."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [ip_address(text) for text in answer.split()]


def test_a_listed_address_gets_the_body(receiver: Receiver) -> None:
    outcome = Sender(LOOPBACK).post(receiver.url(), {"webhook-id": "evt_1"}, b'{"a":1}')
    assert (outcome.status, outcome.error) == (204, None)
    (got,) = receiver.requests
    assert got.body == b'{"a":1}'
    assert got.headers["webhook-id"] == "evt_1"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize(
    "answer",
    ["127.0.0.1", "169.254.169.254", "10.0.0.7", "::ffff:127.0.0.1", "192.0.2.1 10.0.0.7", "0.0.0.0", "::1"],  # noqa: S104
)
def test_a_name_that_means_a_private_address_gets_nothing(answer: str, receiver: Receiver) -> None:
    names = Names(answer)
    outcome = Sender(AddressRules(), resolve=names).post(receiver.url(host="hooks.example"), {}, b"{}")
    assert outcome.status is None and outcome.error is not None and outcome.error.startswith("Not sent: ")
    assert receiver.requests == []


def test_a_name_is_resolved_once_so_that_it_cannot_mean_something_else_afterwards(receiver: Receiver) -> None:
    # Allowed when it is checked, forbidden when a client that resolves again would connect.
    names = Names("127.0.0.1", "169.254.169.254")
    outcome = Sender(LOOPBACK, resolve=names).post(receiver.url(host="hooks.example"), {}, b"{}")
    assert outcome.status == 204
    assert names.asked == 1
    assert receiver.requests[0].headers["host"] == f"hooks.example:{receiver.port}"


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    outcome = Sender(LOOPBACK).post(receiver.url("/elsewhere"), {}, b"{}")
    assert outcome.status == 302 and outcome.error is not None and "redirects are not followed" in outcome.error
    assert [request.path for request in receiver.requests] == ["/elsewhere"]


def test_a_receiver_that_drips_is_left_when_the_time_is_up(receiver: Receiver) -> None:
    began_s = time.monotonic()
    outcome = Sender(LOOPBACK, answer_s=0.5).post(receiver.url("/dripping"), {}, b"{}")
    assert outcome.error == "No answer within 0.5 s."
    assert 0.4 < outcome.duration_s <= time.monotonic() - began_s < 10


def test_of_an_answer_of_a_gigabyte_only_the_status_is_read(receiver: Receiver) -> None:
    outcome = Sender(LOOPBACK).post(receiver.url("/endless"), {}, b"{}")
    assert (outcome.status, outcome.error) == (200, None)
    assert receiver.bytes_sent < 1 << 26


def test_nobody_there_is_an_error_and_no_exception(receiver: Receiver) -> None:
    receiver.close()
    outcome = Sender(LOOPBACK).post(receiver.url(), {}, b"{}")
    assert outcome.status is None and outcome.error is not None and outcome.error.startswith("ConnectError")


def test_a_certificate_must_be_for_the_name_whatever_address_is_connected_to(tmp_path: Path) -> None:
    cert_file, key_file = certificate_in(tmp_path / "tls")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert_file, key_file)
    client = ssl.create_default_context(cafile=str(cert_file))
    receiver = Receiver(tls=server)
    sender = Sender(LOOPBACK, resolve=Names("127.0.0.1"), tls=client)
    try:
        # The certificate is trusted, but for 192.0.2.1.
        outcome = sender.post(receiver.url(host="hooks.example"), {}, b"{}")
        assert outcome.status is None and outcome.error is not None and "CERTIFICATE_VERIFY_FAILED" in outcome.error
        assert receiver.requests == []
    finally:
        receiver.close()
