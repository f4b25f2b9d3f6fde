"""What a decision was made from and what it was, as bytes: to look into it later, and to try another rule on it.

snapshot, actions = unpack(packed)
assert decide(snapshot) == actions
"""

from __future__ import annotations

import zlib

from pydantic import TypeAdapter

from scheduling.decisions import Action, Snapshot

_ADAPTER: TypeAdapter[tuple[Snapshot, list[Action]]] = TypeAdapter(tuple[Snapshot, list[Action]])


def pack(snapshot: Snapshot, actions: list[Action]) -> bytes:
    """Compressed JSON; some 33 bytes for each waiting job."""
    return zlib.compress(_ADAPTER.dump_json((snapshot, actions)))


def unpack(packed: bytes) -> tuple[Snapshot, list[Action]]:
    """Raises zlib.error or pydantic's ValidationError for what `pack` did not write."""
    return _ADAPTER.validate_json(zlib.decompress(packed))
