"""Works batches off, beside what is asked at once. Every process of the API does; a batch is one's at a time.

A batch is a row with a lease, and each answer one beside it: a process that dies loses the requests that it had in
hand, and another one goes on behind what was answered. The input, the answers and the errors are versions of data
sets, so that a job could take the place of this.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from fastapi.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from api.batches.asking import Answered, ask
from api.batches.finishing import finish, unanswered
from api.batches.validating import fail, validate
from api.errors import ApiError
from api.files.service import stored_of
from api.parts import Parts
from corpus.batch_requests import BatchRequest, requests_of
from corpus.confinement.confinement import ConfinementUnavailable, Stopped
from corpus.confinement.process import Overran
from jobspecs.batches import ANSWERS_BYTES_MAX, BatchState
from jobspecs.rights import Principal, Reach
from storage.database import DatabaseUnavailable
from storage.objects import ObjectCorrupt, ObjectNotFound, ObjectStoreError
from storage.tables import BatchRow
from storage.tabular.formats import LINE_BYTES_MAX

log = logging.getLogger(__name__)

#: What is wrong with a part of the platform, or with this process's end.
_PASSING = (DatabaseUnavailable, ObjectStoreError, ApiError, ConfinementUnavailable, Stopped, Overran, OSError)

#: Batches that one process works on at once, and requests of each: the embedded engine gives 16 answers at once, and
#: leaves room for those who ask by themselves.
BATCHES_AT_ONCE = 2
REQUESTS_AT_ONCE = 6
#: Seconds between two looks for a batch.
POLL_S = 2.0
#: Seconds for which nobody else takes a batch on, and between two renewals.
LEASE_S = 30.0
RENEW_EVERY_S = 2.0
#: Seconds to wait at most before a request is asked again.
_AGAIN_S_MAX = 60.0
#: Seconds without an answer after which a batch leaves its place to others until its lease has run out: of models that
#: are away for a day, two batches would keep everybody else's waiting.
STALLED_S = 30.0
#: Where a batch's file is not read any more.
_UNREAD = frozenset({None, BatchState.cancelling, BatchState.finalizing})
_TOO_LONG = {"code": "answer_too_long", "message": f"The answer has more than {LINE_BYTES_MAX:,} bytes. Ask for less."}
_TOO_MUCH = {
    "code": "answers_too_long",
    "message": f"The batch's answers have {ANSWERS_BYTES_MAX:,} bytes already. Ask the rest in another one.",
}


class Stalled(Exception):
    """Nothing was answered for a while: it goes on later."""


class BatchWorker:
    """One per process."""

    def __init__(self, parts: Parts, app: ASGIApp, *, poll_s: float = POLL_S) -> None:
        self._parts = parts
        self._app = app
        self._poll_s = poll_s
        self._tasks: set[asyncio.Task[None]] = set()

    async def work_on(self) -> None:
        try:
            while True:
                await self._take_on()
                await asyncio.sleep(self._poll_s)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take_on(self) -> None:
        while len(self._tasks) < BATCHES_AT_ONCE:
            try:
                row = await run_in_threadpool(self._claim)
            except DatabaseUnavailable as error:
                log.warning("batches wait: %s", error)
                return
            if row is None:
                return
            task = asyncio.create_task(self._work(row))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _claim(self) -> BatchRow | None:
        with self._parts.database.unit_of_work() as work:
            return work.batches.claim(lease_s=LEASE_S)

    async def _work(self, row: BatchRow) -> None:
        try:
            async with _held(self._parts, row) as hold:
                await Run(self._parts, self._app, row, hold).go()
        except (*_PASSING, Stalled) as error:
            # Its lease runs out, and it is taken on again.
            log.warning("batch %s waits: %s", row.id, error)
        except Exception:
            log.exception("batch %s met a defect; it is taken on again", row.id)


class Hold:
    """The lease of one batch; `found`: its state, as the last renewal has found it, None once it is somebody else's."""

    def __init__(self, row: BatchRow) -> None:
        self.found: BatchState | None = BatchState(row.state)

    @property
    def goes_on(self) -> bool:
        """Whether requests are to be asked."""
        return self.found is BatchState.in_progress


@asynccontextmanager
async def _held(parts: Parts, row: BatchRow) -> AsyncIterator[Hold]:
    """Renews the lease meanwhile, and gives it back."""
    hold = Hold(row)

    def renew() -> None:
        with parts.database.unit_of_work() as work:
            hold.found = work.batches.renew(row.id, row.fence, lease_s=LEASE_S)

    async def renew_on() -> None:
        while hold.found is not None:
            await asyncio.sleep(RENEW_EVERY_S)
            with suppress(DatabaseUnavailable):
                await run_in_threadpool(renew)

    def give_back() -> None:
        with parts.database.unit_of_work() as work:
            work.batches.give_back(row.id, row.fence)

    await run_in_threadpool(renew)
    renewing = asyncio.create_task(renew_on())
    try:
        yield hold
        await run_in_threadpool(give_back)
    except asyncio.CancelledError:
        # The process ends: another one may go on at once. After a failure the lease runs out first.
        await run_in_threadpool(give_back)
        raise
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing


class Run:
    """One process's work on one batch."""

    def __init__(self, parts: Parts, app: ASGIApp, row: BatchRow, hold: Hold) -> None:
        self._parts = parts
        self._app = app
        self._row = row
        self._hold = hold
        self._answered_at = time.monotonic()
        self._room_bytes = ANSWERS_BYTES_MAX
        #: A request was left for later.
        self._stalled = False

    async def go(self) -> None:
        row, hold = self._row, self._hold
        user = await run_in_threadpool(self._owner)
        with tempfile.TemporaryDirectory(prefix="batch-", dir=self._parts.spool.folder) as folder:
            path = Path(folder) / "requests.jsonl"
            if hold.found not in _UNREAD:
                try:
                    await self._parts.transfers.run(partial(self._fetch, path), patient=True)
                except (ObjectNotFound, ObjectCorrupt) as error:
                    await fail(self._parts, row, f"The batch's file can't be read: {error}")
                    return
            if hold.found is BatchState.validating:
                hold.found = await validate(self._parts, user, row, path) or hold.found
            if hold.goes_on:
                await self._ask_all(user, path)
            # What was asked to end meanwhile is known by the next renewal at the latest.
            ending = hold.found in (BatchState.cancelling, BatchState.expired, BatchState.finalizing)
            if ending or hold.goes_on:
                await finish(self._parts, row, hold.found or BatchState.in_progress, path, Path(folder))

    def _owner(self) -> Principal:
        """Whose limits hold for what is asked; it may read what is its own."""
        row = self._row
        with self._parts.database.unit_of_work() as work:
            found = work.users.find(Reach.of(row.owner_id), row.owner.name)
            own = frozenset({row.owner_id})
            if found is None:
                return Principal(row.owner_id, row.owner.name, frozenset({"read"}), own)
            return Principal(row.owner_id, found.name, frozenset({"read"}), own, limits=found.limits)

    def _fetch(self, path: Path) -> None:
        with self._parts.database.unit_of_work() as work:
            version = work.datasets.get_version_or_none(self._row.input_version_id)
        if version is None:
            raise ApiError(404, "The file of the batch is gone.")
        self._parts.objects.download_stored(stored_of(version), path, should_stop=self._parts.stopping.is_set)

    async def _ask_all(self, user: Principal, path: Path) -> None:
        answered = await run_in_threadpool(self._answered)
        self._answered_at = time.monotonic()
        waiting = (request for request in requests_of(path) if request.line not in answered)
        reading = asyncio.Lock()
        async with asyncio.TaskGroup() as group:
            for _ in range(REQUESTS_AT_ONCE):
                group.create_task(self._ask_on(user, waiting, reading))
        if self._stalled and self._hold.goes_on:
            raise Stalled(f"nothing was answered for {STALLED_S:g} s")

    def _answered(self) -> set[int]:
        with self._parts.database.unit_of_work() as work:
            self._room_bytes = ANSWERS_BYTES_MAX - work.batches.answer_bytes(self._row.id)
            return work.batches.answered(self._row.id)

    async def _ask_on(self, user: Principal, waiting: Iterator[BatchRequest], reading: asyncio.Lock) -> None:
        while True:
            # A line of a megabyte is read in a thread: it may take a third of a second.
            async with reading:
                request = await run_in_threadpool(next, waiting, None)
            if request is None or self._stalled or not self._hold.goes_on:
                return
            if self._room_bytes <= 0:
                await run_in_threadpool(self._refuse, request, _TOO_MUCH)
                continue
            answer = await self._asked(user, request)
            if answer is None:
                return
            self._answered_at = time.monotonic()
            await run_in_threadpool(self._keep_answer, request, answer)

    async def _asked(self, user: Principal, request: BatchRequest) -> Answered | None:
        """None when the batch ends before there is an answer, or leaves its place to others."""
        while self._hold.goes_on:
            # In a task of its own, as a request that came in: what it notes of itself stays its own.
            answer = await asyncio.create_task(ask(self._app, user, request.url, request.body))
            if answer.again_in_s is None:
                return answer
            left_s = min(answer.again_in_s, _AGAIN_S_MAX)
            while left_s > 0 and self._hold.goes_on:
                self._stalled = self._stalled or time.monotonic() - self._answered_at > STALLED_S
                if self._stalled:
                    return None
                await asyncio.sleep(min(left_s, 1.0))
                left_s -= 1.0
        return None

    def _keep_answer(self, request: BatchRequest, answer: Answered) -> None:
        document = json.dumps(document_of(self._row.id, request, answer), ensure_ascii=False)
        size = len(document.encode())
        if size >= LINE_BYTES_MAX:
            # No data set has such a line, and the file of answers is one.
            self._refuse(request, _TOO_LONG)
            return
        self._room_bytes -= size
        self._keep(request.line, answer.status >= 400, document)

    def _refuse(self, request: BatchRequest, error: dict[str, str]) -> None:
        document = json.dumps(unanswered(self._row.id, request, error), ensure_ascii=False)
        self._keep(request.line, True, document)

    def _keep(self, line: int, failed: bool, document: str) -> None:
        with self._parts.database.unit_of_work() as work:
            if not work.batches.answer(self._row.id, self._row.fence, line, failed=failed, document=document):
                self._hold.found = None


def document_of(batch_id: UUID, request: BatchRequest, answer: Answered) -> dict[str, Any]:
    """A line of the file of answers, or of errors."""
    response = {"status_code": answer.status, "request_id": answer.request_id, "body": answer.body}
    return {**unanswered(batch_id, request, None), "response": response}
