"""/healthz, /readyz, /metrics, /openapi.json."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from api.authentication import guarded_router, public, requires
from api.documented import described, of_type
from api.health.exposition import exposition
from api.health.figures import FiguresCache
from api.health.service import Readiness, ReadinessProbe
from api.metrics import Metrics

router = guarded_router("health")


@router.get("/healthz")
@public
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"model": Readiness}})
@public
async def readyz(request: Request) -> JSONResponse:
    """200 when database and object store answer; without Redis or a scheduler it is `degraded` and still 200."""
    probe: ReadinessProbe = request.app.state.readiness
    readiness = await probe.look()
    return JSONResponse(readiness.model_dump(), 503 if readiness.status == "unavailable" else 200)


@router.get("/metrics", response_class=Response, responses={200: of_type("text/plain")})
@requires("metrics.read")
def metrics(request: Request) -> Response:
    """Figures in Prometheus's text format: docs/monitoring.md."""
    own: Metrics = request.app.state.metrics
    figures: FiguresCache = request.app.state.figures
    return Response(own.exposition() + exposition(figures.look()), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", include_in_schema=False)
@public
async def openapi(request: Request) -> dict[str, Any]:
    """This API's description. It holds no secret."""
    return described(request.app)
