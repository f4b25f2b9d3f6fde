"""/v1/deployments."""

from __future__ import annotations

from functools import partial

from fastapi import Response
from fastapi.responses import JSONResponse

from api.authentication import TheUser, guarded_router, requires
from api.deployments import service, sleep, traffic
from api.deployments.schemas import Deployment, DeploymentList, DeploymentRequest, TrafficRequest
from api.parts import ThePlatform
from api.references.names import TheNamed

router = guarded_router("deployments")


@router.put("/v1/deployments/{name:owned}", status_code=202)
@requires("deployments.write")
async def want_deployment(
    platform: ThePlatform, user: TheUser, named: TheNamed, request: DeploymentRequest | None = None
) -> Deployment:
    """Serves a model version. Look at the deployment until its state is `ready`."""
    return await platform.lookups.run(partial(service.want, platform, user, named, request or DeploymentRequest()))


@router.get("/v1/deployments")
@requires("deployments.read")
def list_deployments(platform: ThePlatform, user: TheUser) -> DeploymentList:
    """Your deployments."""
    return service.list_deployments(platform, user)


@router.get("/v1/deployments/{name:owned}")
@requires("deployments.read")
def get_deployment(platform: ThePlatform, user: TheUser, named: TheNamed) -> Deployment:
    """One deployment: what is wanted, and what the worker observes."""
    return service.get(platform, user, named)


@router.post("/v1/deployments/{name:owned}/sleep", status_code=202)
@requires("deployments.write")
def put_to_sleep(platform: ThePlatform, user: TheUser, named: TheNamed) -> Deployment:
    """Gives back what it takes, until somebody asks it or wakes it. Look at it until its state is `asleep`."""
    return sleep.sleep(platform, user, named)


@router.post("/v1/deployments/{name:owned}/wake", status_code=202)
@requires("deployments.write")
def wake(platform: ThePlatform, user: TheUser, named: TheNamed) -> Deployment:
    """Starts it again, as a request for it would. Look at it until its state is `ready`."""
    return sleep.wake(platform, user, named)


@router.delete("/v1/deployments/{name:owned}", status_code=202, responses={202: {"model": Deployment}, 204: {}})
@requires("deployments.write")
def unwant_deployment(platform: ThePlatform, user: TheUser, named: TheNamed) -> Response:
    """Ends it: 204 when it is gone, 202 while a worker still stops it."""
    left = service.unwant(platform, user, named)
    return Response(status_code=204) if left is None else JSONResponse(left.model_dump(mode="json"), 202)


@router.post("/v1/deployments/{name:owned}/traffic")
@requires("deployments.write")
def set_traffic(platform: ThePlatform, user: TheUser, named: TheNamed, request: TrafficRequest) -> Deployment:
    """Sets how many of 100 requests the deployment's candidate gets."""
    return traffic.set_traffic(platform, user, named, request.percent)


@router.post("/v1/deployments/{name:owned}/promote")
@requires("deployments.write")
def promote_candidate(platform: ThePlatform, user: TheUser, named: TheNamed) -> Deployment:
    """Gives all requests to the candidate, and ends what was deployed until now."""
    return traffic.promote(platform, user, named)


@router.post("/v1/deployments/{name:owned}/rollback")
@requires("deployments.write")
def roll_back_candidate(platform: ThePlatform, user: TheUser, named: TheNamed) -> Deployment:
    """Ends the candidate."""
    return traffic.roll_back(platform, user, named)
