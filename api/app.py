"""The application: every route, behind authentication, with one shape of errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from api.authentication import check_routes
from api.batches.endpoints import router as batches
from api.batches.working import BatchWorker
from api.classify.endpoints import router as classify
from api.datasets.endpoints import router as datasets
from api.decisions.endpoints import router as decisions
from api.deployments.endpoints import router as deployments
from api.embeddings.endpoints import router as embeddings
from api.errors import add_error_handlers
from api.files.endpoints import router as files
from api.files.uploads import router as uploads
from api.fine_tuning.endpoints import listing as fine_tuning_jobs
from api.fine_tuning.endpoints import router as fine_tuning
from api.generation.endpoints import router as generation
from api.generation.model_endpoints import router as model_generation
from api.generation.model_endpoints import tgi_router as tgi_generation
from api.health.endpoints import router as health
from api.health.figures import FiguresCache
from api.health.service import ReadinessProbe
from api.hosts.endpoints import router as hosts
from api.hub.changing import router as hub_changing
from api.hub.commits.closing import CLOSE_EVERY_S, close_quiet
from api.hub.reading.endpoints import router as hub
from api.hub.reading.files import router as hub_files
from api.hub.transfers.uploads import router as hub_uploads
from api.hub.transfers.xet import router as hub_xet
from api.hub.writing import router as hub_writing
from api.inference.limiting import RENEW_EVERY_S
from api.inference.metering import WRITE_EVERY_S
from api.jobs.endpoints import router as jobs
from api.jobs.watching import router as watching
from api.metrics import Metrics
from api.middleware import RequestFrame
from api.models.endpoints import router as models
from api.models.one_model import router as one_model
from api.open_answers import LOOK_EVERY_S
from api.parts import Parts
from api.pipelines.endpoints import router as pipelines
from api.pipelines.watching import router as watching_pipelines
from api.registry.alias_endpoints import router as registry_aliases
from api.registry.endpoints import router as registry
from api.registry.files import router as registry_files
from api.registry.imports import router as registry_imports
from api.registry.views import router as registry_views
from api.rerank.endpoints import router as rerank
from api.responses.endpoints import router as responses
from api.schedules.endpoints import router as schedules
from api.settings import ApiSettings
from api.spec_schemas.endpoints import router as spec_schemas
from api.spool import SWEEP_EVERY_S, Spool
from api.sweeps.endpoints import router as sweeps
from api.usage.endpoints import router as usage
from api.users.endpoints import router as users
from api.users.hub_tokens import router as hub_tokens
from api.webhooks.endpoints import router as webhooks
from api.webhooks.openai_endpoints import router as webhook_endpoints
from storage.database import Database, DatabaseUnavailable

log = logging.getLogger(__name__)

_ROUTERS = (
    jobs,
    watching,
    pipelines,
    watching_pipelines,
    datasets,
    files,
    uploads,
    fine_tuning,
    fine_tuning_jobs,
    batches,
    registry_imports,
    registry_files,
    registry,
    registry_aliases,
    registry_views,
    deployments,
    hosts,
    classify,
    decisions,
    generation,
    model_generation,
    tgi_generation,
    responses,
    embeddings,
    rerank,
    models,
    one_model,
    usage,
    users,
    webhooks,
    webhook_endpoints,
    schedules,
    sweeps,
    hub_tokens,
    spec_schemas,
    hub_writing,
    hub_changing,
    hub_uploads,
    hub_xet,
    hub,
    hub_files,
    health,
)


def create_app(settings: ApiSettings) -> FastAPI:
    """The ASGI application. Raises RuntimeError when a route would be open that must not be."""
    metrics = Metrics()
    app = FastAPI(
        title="Eigenwerk",
        description="Your own language models, on your own machines.",
        version="0.1.0",
        lifespan=_lifespan,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.parts = Parts.make(settings)
    app.state.metrics = metrics
    app.state.readiness = ReadinessProbe(app.state.parts)
    app.state.figures = FiguresCache(app.state.parts.database)
    for router in _ROUTERS:
        app.include_router(router)
    check_routes(app)
    add_error_handlers(app)
    app.add_middleware(RequestFrame, hosts=settings.hosts, metrics=metrics)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    await run_in_threadpool(parts.spool.sweep)
    rounds = [_sweep_on(parts.spool), _close_pushes_on(parts), _renew_on(parts), _write_answers_on(parts)]
    rounds += [parts.activity.write_on(), _end_answers_on(parts), BatchWorker(parts, app).work_on()]
    tasks = [asyncio.create_task(round) for round in rounds]
    try:
        # Begun now, so that the first file finds it warm.
        parts.confinement.start()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await run_in_threadpool(parts.answer_meter.write)
        await parts.activity.write()
        await parts.close()


async def _sweep_on(spool: Spool) -> None:
    while True:
        await asyncio.sleep(SWEEP_EVERY_S)
        await run_in_threadpool(spool.sweep)


async def _renew_on(parts: Parts) -> None:
    while True:
        await asyncio.sleep(RENEW_EVERY_S)
        await parts.request_counts.renew()


async def _write_answers_on(parts: Parts) -> None:
    while True:
        await asyncio.sleep(WRITE_EVERY_S)
        await run_in_threadpool(parts.answer_meter.write)


async def _end_answers_on(parts: Parts) -> None:
    """Ends the answers of tokens that were revoked, or are over."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        asking = parts.open_answers.tokens
        try:
            valid = await run_in_threadpool(_valid, parts.database, asking) if asking else asking
        except DatabaseUnavailable as error:
            log.warning("whether tokens were revoked is not known at the moment: %s", error)
            continue
        parts.open_answers.end_of(asking - valid)


def _valid(database: Database, tokens: set[str]) -> set[str]:
    with database.reading() as work:
        return work.users.valid_of(tokens)


async def _close_pushes_on(parts: Parts) -> None:
    first = True
    while True:
        await asyncio.sleep(CLOSE_EVERY_S)
        await close_quiet(parts, first=first)
        first = False
