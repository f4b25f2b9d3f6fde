"""Server-sent events, as the WHATWG's HTML standard defines them (§9.2), from the lines of a response."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from eigenwerk.errors import EigenwerkError
from eigenwerk.http.transport import Transport, is_passing

#: Seconds without a byte after which a stream counts as dead; the server sends a comment every 15 s.
_SILENCE_S = 45.0
#: Seconds for which a watcher waits for a platform that is away.
_PATIENCE_S = 120.0
_RECONNECT_DELAY_S = 1.0


@dataclass(frozen=True)
class Event:
    """One event. `id` is the place behind it: whoever comes back with it gets what follows."""

    id: str
    type: str
    data: dict[str, Any]


def parse_events(lines: Iterable[str]) -> Iterator[Event]:
    """Events in order. An event that is cut off by the end of the stream is dropped; it will be sent again."""
    fields: dict[str, str] = {}
    for line in lines:
        line = line.rstrip("\r\n")
        if not line:
            if "data" in fields:
                yield Event(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data" and "data" in fields:
            fields["data"] += f"\n{value}"
        elif name:
            fields[name] = value


def follow(transport: Transport, path: str, after: str | None) -> Iterator[Event]:
    """The events behind `after` up to the one with the type `end`; a connection that breaks is made again.

    Raises EigenwerkError when the platform refuses, or stays away for two minutes.
    """
    away_since_s: float | None = None
    while True:
        try:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
            with transport.stream(path, headers, read_timeout_s=_SILENCE_S) as response:
                away_since_s = None
                for event in parse_events(response.iter_lines()):
                    after = event.id or after
                    yield event
                    if event.type == "end":
                        return
        except EigenwerkError as error:
            away_since_s = away_since_s or time.monotonic()
            if not is_passing(error) or time.monotonic() - away_since_s > _PATIENCE_S:
                raise
        transport.sleep(_RECONNECT_DELAY_S)
