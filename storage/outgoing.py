"""Names of what users ask the platform to send to, as addresses that it may connect to: resolved once, then checked.

Who connects uses what is returned here and does not resolve again: the name could mean something else by then.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult

from jobspecs.addresses import Address, AddressRules, NotAllowed, literal_address, read_url

#: Host and port -> addresses. Raises OSError when there are none.
Resolve = Callable[[str, int], Sequence[Address]]


@dataclass(frozen=True)
class Destination:
    """Where a URL leads at this moment. `host`: the name that a certificate must have."""

    url: SplitResult
    host: str
    port: int
    addresses: tuple[Address, ...]


def resolve(host: str, port: int) -> Sequence[Address]:
    """By the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(str(entry[4][0])) for entry in found]


def destination(url: str, rules: AddressRules, setting: str, resolve: Resolve = resolve) -> Destination:
    """Raises NotAllowed for what is no URL or leads where the rules don't, OSError for a name that means nothing."""
    parts = read_url(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    literal = literal_address(host)
    addresses = tuple(dict.fromkeys([literal] if literal is not None else resolve(host, port)))
    if not addresses:
        raise NotAllowed(f"{host} has no address.")
    rules.check(parts.scheme, addresses, setting)
    return Destination(parts, host, port, addresses)
