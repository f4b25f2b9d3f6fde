"""Takes shares of deployments over from hosts that have several of them, one at a time (`scheduling.share_moves`)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from uuid import UUID

from scheduling.serving_admission import Needs
from scheduling.share_moves import SETTLED_S, PlacedShare, share_to_take
from storage.database import UnitOfWork
from workers.inference.places import ClaimTerms

log = logging.getLogger(__name__)


@dataclass
class ShareMoves:
    """What one host takes over. Times are monotonic seconds. Whoever calls it has locked the host."""

    host: str
    _lives_since_s: float = float("-inf")
    _seen_at_s: float = float("-inf")
    _looked_at_s: float = float("-inf")
    #: Shares, by id and generation, that this host has given back: it can't serve them, whatever room it has.
    _given_back: set[tuple[UUID, int]] = field(default_factory=set)

    def settle(self, work: UnitOfWork, terms: ClaimTerms, now_s: float, *, draining: bool) -> None:
        """One look: gives back what can't be served here, and takes over what is due, one share of each deployment."""
        self._give_back(work)
        if draining or now_s - self._seen_at_s > terms.lease_s:
            self._lives_since_s = now_s
        self._seen_at_s = now_s
        if draining or now_s - self._looked_at_s < SETTLED_S / 10:
            return
        self._looked_at_s = now_s
        for owner_id, name in work.share_moves.crowded():
            self._take(work, owner_id, name, terms, now_s - self._lives_since_s)

    def _take(self, work: UnitOfWork, owner_id: UUID, name: str, terms: ClaimTerms, lives_s: float) -> None:
        def due() -> PlacedShare | None:
            shares, room = work.share_moves.placed(owner_id, name), work.hosts.room(self.host)
            if room is None or any((share.id, share.generation) in self._given_back for share in shares):
                return None
            free = Needs(room.memory_bytes, room.gpus, terms.gpu_bytes)
            return share_to_take(shares, self.host, free, terms.engines, lives_s=lives_s, settled_s=SETTLED_S)

        if (share := due()) is None or not work.share_moves.lock_hosts_of(owner_id, name):
            return
        # Once more under the locks: somebody else may have taken one meanwhile.
        if (share := due()) is not None and work.share_moves.take(share, self.host, lease_s=terms.lease_s):
            log.info("share %d of deployment %s moves here from %s", share.number, name, share.host)

    def _give_back(self, work: UnitOfWork) -> None:
        for share_id, generation in work.share_moves.give_back_failed(self.host):
            self._given_back.add((share_id, generation))
            log.warning("deployment %s can't be served here and goes back to where it still answers", share_id)
