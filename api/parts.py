"""What the endpoints work with: one of each per process, made at start and closed at the end."""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass, field
from typing import Annotated

import anyio
import httpx
from fastapi import Depends, Request

from api.foreign_files import (
    CHECKS_MAX,
    LARGE_READINGS_MAX,
    READINGS_MAX,
    USER_CHECKS_MAX,
    USER_LARGE_READINGS_MAX,
    USER_READINGS_MAX,
    Readings,
)
from api.inference.activity import Activity
from api.inference.metering import AnswerMeter
from api.inference.routing import Routes
from api.inference.waking import Waker
from api.inspection_cache import InspectionCache
from api.jobs.looks import JobLooks
from api.jobs.watchers import Watchers
from api.open_answers import OpenAnswers
from api.pools import Pool
from api.settings import ApiSettings
from api.spool import Spool
from corpus.confinement.confinement import Confinement
from storage.database import Database
from storage.objects import ObjectSettings, ObjectStore
from storage.outgoing import Resolve, resolve
from storage.progress import ProgressWatcher
from storage.request_counts import RequestCounts
from storage.secret_box import SecretBox

#: Transfers, and looks at what models and data sets consist of, that may run at once. They have threads of their own:
#: an object store or a hub that hangs must not hold up everything else.
TRANSFERS_MAX = 16
LOOKUPS_MAX = 16
#: Bodies of chunks in memory, up to 80 MiB each, and files that are put together from them.
CHUNKS_MAX = 4
#: Seconds to wait for one of them to end.
_TRANSFER_PATIENCE_S = 60.0
_LOOKUP_PATIENCE_S = 10.0
#: Bodies whose bytes go to the spool folder at once.
_SPOOLING_MAX = 16
#: What the API, whose clients wait, grants the object store: seconds without a byte, and tries.
_OBJECTS_READ_TIMEOUT_S = 20.0
_OBJECTS_ATTEMPTS = 3
#: Seconds to wait for an engine, or for a free connection to it, where a call does not say otherwise.
_ENGINE_TIMEOUT_S = 60.0

#: Answers of engines that may be on their way at once: one busy language model alone has up to 144, in minutes each.
_ANSWERS_MAX = 512
_IDLE_CONNECTIONS_MAX = 64

#: Seconds to reach an engine: it listens on this network, or it is not there.
CONNECT_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Parts:
    settings: ApiSettings
    database: Database
    objects: ObjectStore
    watcher: ProgressWatcher
    request_counts: RequestCounts
    #: For what users entrust to the platform; None: it has no key.
    secret_box: SecretBox | None
    answer_meter: AnswerMeter
    #: To the engines of deployments; never through a proxy.
    engines: Routes
    activity: Activity
    #: At what the database has of watched jobs.
    job_looks: JobLooks
    waker: Waker
    #: For the model hub; it honours the proxy variables.
    hub: httpx.Client
    transfers: Pool
    lookups: Pool
    #: For what clients of the hub send as chunks.
    chunks: Pool
    spool: Spool
    #: For the spool folder's disk.
    spooling: anyio.CapacityLimiter
    #: Where foreign bytes are read.
    confinement: Confinement
    readings: Readings
    #: Checks of jobs' data sets, which take more and have places of their own.
    checks: Readings
    #: What was found out about data sets and models.
    inspections: InspectionCache = field(default_factory=InspectionCache)
    #: Names of hosts that users name, as addresses.
    resolve: Resolve = resolve
    #: Set when the process shall end: streams that have no end of their own finish.
    stopping: threading.Event = field(default_factory=threading.Event)
    watchers: Watchers = field(default_factory=Watchers)
    #: Reads from engines end shortly before the process stops waiting for answers.
    open_answers: OpenAnswers = field(default_factory=OpenAnswers)

    @classmethod
    def make(cls, settings: ApiSettings) -> Parts:
        """Opens nothing yet: the parts connect when they are first used, so the API starts without them."""
        storage = settings.storage
        database = Database(storage.database_url, application="eigenwerk-api")
        answer_meter = AnswerMeter(database)
        return cls(
            settings=settings,
            database=database,
            answer_meter=answer_meter,
            objects=ObjectStore(
                ObjectSettings.of(storage, read_timeout_s=_OBJECTS_READ_TIMEOUT_S, attempts=_OBJECTS_ATTEMPTS)
            ),
            watcher=ProgressWatcher(storage.redis_url),
            request_counts=RequestCounts(storage.redis_url),
            secret_box=storage.secret_box(),
            engines=Routes(_engine_client, note=answer_meter.note),
            activity=Activity(database),
            job_looks=JobLooks(database, settings.watch_poll_s / 2),
            waker=Waker(database, settings.wake_wait_s),
            hub=httpx.Client(timeout=httpx.Timeout(10.0, connect=4.0), follow_redirects=False),
            transfers=Pool("The object store", threads=TRANSFERS_MAX, patience_s=_TRANSFER_PATIENCE_S),
            lookups=Pool("The object store or the model hub", threads=LOOKUPS_MAX, patience_s=_LOOKUP_PATIENCE_S),
            chunks=Pool("The object store", threads=CHUNKS_MAX, patience_s=_TRANSFER_PATIENCE_S),
            spool=Spool(settings.spool_dir),
            spooling=anyio.CapacityLimiter(_SPOOLING_MAX),
            confinement=Confinement("api.confined_tasks:TASKS"),
            readings=Readings(READINGS_MAX, USER_READINGS_MAX, LARGE_READINGS_MAX, USER_LARGE_READINGS_MAX),
            checks=Readings(CHECKS_MAX, USER_CHECKS_MAX),
        )

    async def close(self) -> None:
        self.confinement.close()
        await self.engines.close()
        await self.watcher.close()
        await self.request_counts.close()
        self.hub.close()
        self.inspections.close()
        self.spool.close()
        self.objects.close()
        self.database.close()


def _engine_client(verify: ssl.SSLContext | bool) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=verify,
        trust_env=False,
        timeout=httpx.Timeout(_ENGINE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        follow_redirects=False,
        limits=httpx.Limits(max_connections=_ANSWERS_MAX, max_keepalive_connections=_IDLE_CONNECTIONS_MAX),
    )


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


#: An endpoint's access to the parts.
ThePlatform = Annotated[Parts, Depends(_parts)]
