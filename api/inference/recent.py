"""What requests to deployed models found out a moment ago: who a token is of, and where a deployment answers.

Two looks at the database were a large part of what the API adds to one short embedding. Whoever asks again within
`kept_s` gets what was found; a token revoked through another replica of the API is refused that much later. Whatever is
changed through this one is seen at once: it forgets everything. Engines that were replaced go on for longer than
that (`LINGER_S` of the inference worker), so that nothing goes to one that has ended.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

#: Beyond so many, all are looked for anew.
_ENTRIES_MAX = 4096

Found = TypeVar("Found")


class Recent:
    """Of one event loop. `kept_s`: seconds; with 0 everything is looked for each time."""

    def __init__(self, kept_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept_s, self._clock = kept_s, clock
        self._entries: dict[Hashable, tuple[float, Any]] = {}
        self._changes = 0

    async def find(
        self, key: Hashable, look: Callable[[], Awaitable[Found]], worth: Callable[[Found], bool] = bool
    ) -> Found:
        """What `look` finds, or found under this key within `kept_s`. Only what is `worth` it is kept."""
        entry = self._entries.get(key)
        if entry is not None and self._clock() < entry[0]:
            found: Found = entry[1]
            return found
        changes, began_s = self._changes, self._clock()
        found = await look()
        # What was changed meanwhile may not be in it.
        if worth(found) and changes == self._changes:
            if len(self._entries) >= _ENTRIES_MAX:
                self._entries.clear()
            self._entries[key] = began_s + self._kept_s, found
        return found

    def forget(self) -> None:
        """Something has been changed."""
        self._changes += 1
        self._entries.clear()
