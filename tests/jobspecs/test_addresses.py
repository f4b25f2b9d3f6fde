"""Where the platform may be made to send."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobspecs.addresses import AddressRules, NotAllowed, read_url

PUBLIC_ONLY = AddressRules()


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "169.254.169.254", "fe80::1", "10.0.0.1", "172.16.0.1"),  # noqa: S104
        *("192.168.1.1", "100.64.0.1", "224.0.0.1", "ff02::1", "fd00::1", "240.0.0.1", "255.255.255.255", "192.0.2.1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1", "198.18.0.1"),
    ],
)
def test_what_is_not_public_is_refused_unless_it_is_listed(address: str) -> None:
    with pytest.raises(NotAllowed, match="SETTING=public"):
        PUBLIC_ONLY.check("https", [ip_address(address)], "SETTING")


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_asked_by_https_alone(address: str) -> None:
    PUBLIC_ONLY.check("https", [ip_address(address)], "SETTING")
    with pytest.raises(NotAllowed, match="https"):
        PUBLIC_ONLY.check("http", [ip_address(address)], "SETTING")
    with pytest.raises(NotAllowed, match="not among"):
        AddressRules.parse("10.0.0.0/8").check("https", [ip_address(address)], "SETTING")


def test_one_address_that_is_not_allowed_spoils_the_name() -> None:
    with pytest.raises(NotAllowed):
        PUBLIC_ONLY.check("https", [ip_address("8.8.8.8"), ip_address("10.0.0.1")], "SETTING")


@given(st.ip_addresses(v=4))
def test_an_address_wrapped_in_ipv6_is_judged_as_what_is_within(address: object) -> None:
    def allowed(text: str) -> bool:
        try:
            PUBLIC_ONLY.check("https", [ip_address(text)], "SETTING")
        except NotAllowed:
            return False
        return True

    plain = allowed(str(address))
    assert allowed(f"::ffff:{address}") == plain


def test_a_listed_network_may_be_asked_by_http() -> None:
    rules = AddressRules.parse("10.1.0.0/16, 127.0.0.1")
    rules.check("http", [ip_address("10.1.2.3"), ip_address("::ffff:127.0.0.1")], "SETTING")
    with pytest.raises(NotAllowed):
        rules.check("http", [ip_address("10.2.0.1")], "SETTING")
    with pytest.raises(ValueError, match="localhost"):
        AddressRules.parse("localhost")


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://a.example/", "https://", "https://user:secret@a.example/", "https://a.example/#x", "//a.example"),
        *("https://a.example:0/", "https://a.example:99999/", "https://a.example/a b", "https://a.example/\n", "x"),
        *("https://a.example\\@10.0.0.1/", "https://ä.example/", "https://a.example/" + "x" * 2000),
    ],
)
def test_what_is_no_plain_address_is_refused(url: str) -> None:
    with pytest.raises(NotAllowed):
        read_url(url)
