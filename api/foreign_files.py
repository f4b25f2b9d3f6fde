"""Files that people send are read in processes of their own: few at once, large ones and one user's never all.

Measured on two cores: a small file takes 10 ms so, and 1 ms in a thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from uuid import UUID

import anyio
from fastapi import Request
from starlette.requests import ClientDisconnect

from api.errors import RETRY_AFTER_S, ApiError, unavailable
from api.settings import ApiSettings
from corpus.confinement.confinement import ConfinementUnavailable, Stopped
from corpus.confinement.process import ANSWER_BYTES_MAX, Limits, Overran
from jobspecs.problems import InvalidInput, Problem
from storage.objects import TransferStopped
from storage.tabular import TableFormat
from storage.tabular.formats import WHOLE_KINDS

#: Files that are read at once, each with memory of its own; those of one user, and the large ones among them. So two
#: users who send large tables leave room for somebody else's small one.
READINGS_MAX = 6
USER_READINGS_MAX = 4
LARGE_READINGS_MAX = 4
USER_LARGE_READINGS_MAX = 3
#: Files of one user that are read or wait for it.
USER_WAITING_MAX = 32
#: Checks of data sets beside them, each with gigabytes and a core of its own; one user's leave room for another's.
CHECKS_MAX = 2
USER_CHECKS_MAX = 1
#: Seconds to wait for room.
_PATIENCE_S = 20.0
_MEMORY_BYTES = 1024**3
#: Seconds of CPU for any file, and for each megabyte of a larger one as it is sent. Reading takes up to 1.7 s per
#: megabyte of content (rows of four bytes). Of a compressed megabyte texts take 0.3 s, rows of two drawn digits 6.0 s,
#: answers to a questionnaire that grow twentyfold 6.5 s: `ApiSettings.table_seconds_per_mb` gives thrice as much. A
#: compressed file of less than 0.4 MB ends after 8 s, whatever it grows to.
_CPU_S = 8
_CPU_S_PER_PLAIN_MB = 4
#: How much longer it may take by the clock, on a busy machine.
_PATIENCE = 10
#: What to do when a model's file takes too much.
MODEL_REMEDY = "Send it as the library that trains such models saved it."


Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class _Reading:
    user: UUID
    large: bool
    admitted: asyncio.Event = field(default_factory=asyncio.Event)


class Readings:
    """Admits readings, so many at once of all users and of one, and runs them. Used on the event loop only.

    Large ones have fewer places, if told. A free place goes to the user of whose files the fewest are being read.
    """

    def __init__(
        self, at_once: int, of_a_user: int, large_at_once: int | None = None, large_of_a_user: int | None = None
    ) -> None:
        #: By whether only large ones count.
        self._at_once = {False: at_once, True: at_once if large_at_once is None else large_at_once}
        self._of_a_user = {False: of_a_user, True: of_a_user if large_of_a_user is None else large_of_a_user}
        self._threads = anyio.CapacityLimiter(at_once)
        self._running: list[_Reading] = []
        #: Who came first is first.
        self._waiting: list[_Reading] = []

    async def read(
        self,
        request: Request,
        user: UUID,
        file: str,
        remedy: str,
        work: Callable[[Callable[[], bool]], Result],
        *,
        large: bool = False,
        limits: Limits | None = None,
    ) -> Result:
        """What `work` returns, which blocks and hands its argument on to `Confinement.run`: whether to stop.

        `file` is what errors call the file, `remedy` what to do when it takes more than `limits`; `large` tells
        `is_large`.
        Raises InvalidInput when `work` does or takes too much, ApiError 429 and 503 when there is no room, and
        ClientDisconnect: a reading ends with its client. The request's body must have been received.
        """
        async with departing(request) as gone:
            try:
                return await self.run(user, partial(work, gone.is_set), large=large)
            except Overran as error:
                allowed = _allowed(limits or FILE_LIMITS)[error.what]
                message = f"reading the file takes {error}; {allowed} for a file of its kind and size."
                raise InvalidInput([Problem(file=file, message=message, remedy=remedy)]) from error
            except Stopped as error:
                if gone.is_set():
                    raise ClientDisconnect from error
                raise unavailable("The server is going away. Send it again shortly.") from error
            except ConfinementUnavailable as error:
                raise unavailable("The file can't be read now. Send it again shortly.") from error

    async def run(
        self, user: UUID, work: Callable[[], Result], *, large: bool = False, patience_s: float = _PATIENCE_S
    ) -> Result:
        """What `work` returns or raises; ApiError 429 and 503 when there is no room."""
        async with self._place(_Reading(user, large), patience_s):
            return await anyio.to_thread.run_sync(work, limiter=self._threads)

    @asynccontextmanager
    async def _place(self, reading: _Reading, patience_s: float) -> AsyncIterator[None]:
        if sum(other.user == reading.user for other in (*self._running, *self._waiting)) >= USER_WAITING_MAX:
            message = f"{USER_WAITING_MAX} of your files are being read. Wait until some of them are done."
            raise ApiError(429, message, code="too_many_files", headers={"Retry-After": str(RETRY_AFTER_S)})
        self._waiting.append(reading)
        self._admit()
        try:
            try:
                async with asyncio.timeout(patience_s):
                    await reading.admitted.wait()
            except TimeoutError as error:
                raise unavailable("Too many files are being read. Send it again shortly.", "busy_reading") from error
            yield
        finally:
            (self._running if reading in self._running else self._waiting).remove(reading)
            self._admit()

    def _admit(self) -> None:
        """Gives free places away."""
        while True:
            of_user = Counter(reading.user for reading in self._running)
            admissible = [reading for reading in self._waiting if self._has_room(reading)]
            if not admissible:
                return
            admitted = min(admissible, key=lambda reading: of_user[reading.user])
            self._waiting.remove(admitted)
            self._running.append(admitted)
            admitted.admitted.set()

    def _has_room(self, reading: _Reading) -> bool:
        for only_large in {False, reading.large}:
            counted = [other.user for other in self._running if other.large or not only_large]
            if len(counted) >= self._at_once[only_large]:
                return False
            if counted.count(reading.user) >= self._of_a_user[only_large]:
                return False
        return True


def table_remedy(table: TableFormat) -> str:
    """What to do when a table of this format takes too much."""
    if table.kind == "sheet":
        return "Remove cells far from the table and empty repeated rows, or save the sheet as CSV."
    if not _expands(table):
        return "Send it in several parts."
    how = "uncompressed, or in several parts" if table.compression else "in several parts"
    return f"Send it {how}; who runs the platform can give it more time: EIGENWERK_TABLE_SECONDS_PER_MB."


def table_limits(stored_bytes: int, table: TableFormat, settings: ApiSettings) -> Limits:
    """For a pass over a table of this size as it was sent."""
    cpu_s_per_mb = settings.table_seconds_per_mb if _expands(table) else _CPU_S_PER_PLAIN_MB
    return _limits(max(_CPU_S, stored_bytes * cpu_s_per_mb // 1_000_000))


def _expands(table: TableFormat) -> bool:
    return table.compression is not None or table.kind in (*WHOLE_KINDS, "tar")


def _allowed(limits: Limits) -> dict[str, str]:
    """In words, by `Overran.what`."""
    return {
        "time": f"there are {limits.cpu_s} s of CPU",
        "memory": f"there are {limits.memory_bytes / 1024**3:g} GiB",
        "answer": f"there are {ANSWER_BYTES_MAX / 1024**2:g} MiB",
    }


def is_large(limits: Limits) -> bool:
    """May it take more than any file may: from 2 MB on, from 0.4 MB if compressed."""
    return limits.cpu_s > _CPU_S


def _limits(cpu_s: int) -> Limits:
    return Limits(cpu_s, _MEMORY_BYTES, float(_PATIENCE * cpu_s))


#: For what does not grow with the file: headers, configurations, tokenizers.
FILE_LIMITS = _limits(_CPU_S)


@asynccontextmanager
async def departing(request: Request) -> AsyncIterator[threading.Event]:
    """Set when the client leaves. The request's body must have been received."""
    gone = threading.Event()
    leaving = asyncio.ensure_future(_departure(request, gone))
    try:
        yield gone
    finally:
        leaving.cancel()


@asynccontextmanager
async def transferring(request: Request, stopping: threading.Event) -> AsyncIterator[Callable[[], bool]]:
    """Whether to stop: the client has left, or the process ends. The request's body must have been received.

    Raises ClientDisconnect where what is inside raises TransferStopped because of the former.
    """
    async with departing(request) as gone:
        try:
            yield lambda: gone.is_set() or stopping.is_set()
        except TransferStopped as error:
            if gone.is_set():
                raise ClientDisconnect from error
            raise


async def _departure(request: Request, gone: threading.Event) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    gone.set()
