"""How many watch jobs at once: each is a connection here and one to Redis, and the next one must find both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from api.errors import RETRY_AFTER_S, ApiError, unavailable

#: Of this process, and of one user: nobody has all of them.
STREAMS_MAX = 2000
USER_STREAMS_MAX = 1000
#: Beyond so many each waits longer between two looks, by as much as there are more: a thousand cost what these do.
_UNHURRIED = 200


class Watchers:
    """Of one event loop."""

    def __init__(self) -> None:
        self._streams: Counter[UUID] = Counter()

    def check(self, user_id: UUID) -> None:
        """Raises ApiError: 429 for one too many of the user's, 503 where there is no room at all."""
        if self._streams[user_id] >= USER_STREAMS_MAX:
            message = (
                f"You watch {USER_STREAMS_MAX:,} jobs already. End some of these streams, or ask with stream=false."
            )
            raise ApiError(429, message, code="too_many_streams", headers={"Retry-After": str(RETRY_AFTER_S)})
        if self._streams.total() >= STREAMS_MAX:
            raise unavailable("As many watch jobs as this server can tell. Ask with stream=false.", "too_many_streams")

    @property
    def patience(self) -> float:
        """How much longer each shall wait for what is not live, as a factor."""
        return max(1.0, self._streams.total() / _UNHURRIED)

    @contextmanager
    def one(self, user_id: UUID) -> Iterator[None]:
        self._streams[user_id] += 1
        try:
            yield
        finally:
            self._streams[user_id] -= 1
            self._streams += Counter()  # only those with any stay
