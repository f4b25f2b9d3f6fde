"""What users import: `Client` talks to an Eigenwerk platform over HTTP.

from eigenwerk import Client, connect

with connect() as client:
    job = client.submit(spec)
    for event in client.watch(job.id):
        print(event.type, event.data)
"""

from __future__ import annotations

from eigenwerk.client import Client, connect
from eigenwerk.connection import Connection, find_connection
from eigenwerk.errors import EigenwerkError, TransferCorrupt
from eigenwerk.http.event_stream import Event

__all__ = [
    "Client",
    "Connection",
    "EigenwerkError",
    "Event",
    "TransferCorrupt",
    "connect",
    "find_connection",
]
