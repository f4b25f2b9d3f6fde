"""Where the platform may send what its users ask it to send: addresses that the administrator allows, and no others.

A user who names an address makes the platform's own machine ask it, from within its network. So what is not public is
refused unless the administrator lists it, and what is decided is the address that is connected to, not its name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PUBLIC = "public"
URL_CHARS_MAX = 2000
#: IPv4 addresses as IPv6 writes them for translators; they lead to what is within.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class NotAllowed(ValueError):
    """The address may not be asked. The message, for people, says why and who could allow it."""


@dataclass(frozen=True)
class AddressRules:
    """Public addresses, by https, where `public`; those in `networks` by http as well."""

    public: bool = True
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> AddressRules:
        """Of words such as `public 10.1.2.0/24 127.0.0.1`. Raises ValueError for another word."""
        words = text.replace(",", " ").split()
        networks = []
        for word in words:
            if word != PUBLIC:
                try:
                    networks.append(ipaddress.ip_network(word))
                except ValueError as error:
                    raise ValueError(f"{word} is neither {PUBLIC!r} nor a network such as 10.1.2.0/24") from error
        return cls(PUBLIC in words, tuple(networks))

    def check(self, scheme: str, addresses: Iterable[Address], setting: str) -> None:
        """Raises NotAllowed unless every one of the addresses may be asked: a name must not mix them."""
        for address in map(_within, addresses):
            if any(address in network for network in self.networks):
                continue
            if (why := _why_not_public(address)) is not None:
                raise NotAllowed(f"{address} is {why}. An administrator can allow it: {setting}={PUBLIC} {address}")
            if not self.public:
                raise NotAllowed(f"{address} is not among the addresses that {setting} allows.")
            if scheme != "https":
                raise NotAllowed(f"{address} is public, and there only https:// is used.")


PUBLIC_ONLY = AddressRules()


def read_url(url: str) -> SplitResult:
    """Raises NotAllowed for what is no http(s) address, or names a user."""
    plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # Brackets that don't close, ports that are none.
        is_address = False
    if not is_address or not plain:
        raise NotAllowed("it is no address such as https://hooks.example.com/eigenwerk.")
    if parts.username is not None or parts.password is not None:
        raise NotAllowed("it names a user or a password, which would be seen in lists; the signature tells who sends.")
    if parts.fragment or len(url) > URL_CHARS_MAX:
        raise NotAllowed(f"it has a fragment (#…), or more than {URL_CHARS_MAX:,} characters.")
    return parts


def literal_address(host: str) -> Address | None:
    """The address that the host is; None when it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _within(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one that only wraps it."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _why_not_public(address: Address) -> str | None:
    if address.is_unspecified:
        return "no address of a machine"
    if address.is_loopback:
        return "the platform's own machine"
    if address.is_link_local:
        return "of the link, where clouds keep their metadata"
    if address.is_multicast:
        return "multicast"
    # Of networks within sites, from before there were unique local ones, `is_global` says that they are.
    within_site = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    if not address.is_global or address.is_reserved or within_site:
        return "of a private or reserved network"
    return None
