"""Which share of a deployment a host takes over that has none of it: shares in, one of them or None comes out.

Each move raises the number of hosts that serve the deployment by one, as it leaves a host with a share and goes to one
without. So there are fewer moves than shares, and no share moves back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from scheduling.serving_admission import Needs

#: Seconds for which a host must have lived, and the shares have answered where they are, before one moves. A worker
#: that is restarted has its own shares back sooner, and for a host that comes and goes each minute no model is fetched.
SETTLED_S = 60.0


@dataclass(frozen=True)
class PlacedShare:
    """A wanted share of a deployment."""

    id: UUID
    generation: int
    number: int
    host: str | None
    needs: Needs
    engine: str
    #: For how long it has answered where it is; None while it does not, sleeps, moves, or its host is silent.
    answers_s: float | None


def share_to_take(
    shares: Sequence[PlacedShare],
    host: str,
    room: Needs,
    engines: frozenset[str],
    *,
    lives_s: float,
    settled_s: float = SETTLED_S,
) -> PlacedShare | None:
    """The share that the host takes over from one that has several.

    `shares`: all of one deployment that are wanted. `room`: what is free on the host. `lives_s`: for how long it has
    lived undrained. The last share of the host with the most of them goes first.
    """
    if lives_s < settled_s or any(share.answers_s is None or share.answers_s < settled_s for share in shares):
        return None
    by_host = Counter(share.host for share in shares)
    if host in by_host:
        return None
    crowded = [
        share for share in shares if by_host[share.host] > 1 and share.engine in engines and share.needs.fit(room)
    ]
    return max(crowded, key=lambda share: (by_host[share.host], share.number), default=None)
