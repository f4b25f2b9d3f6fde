"""Models that whoever asks them first deploys, where their owner allows it: as if they had been deployed, and slept."""

from __future__ import annotations

import logging

from api.deployments.schemas import DeploymentRequest
from api.deployments.service import want
from api.inference.waking import Asleep
from api.parts import Parts
from jobspecs.deploying import Deploying
from jobspecs.references import Reference, parse_reference
from jobspecs.rights import Principal

log = logging.getLogger(__name__)


def deployed_for_first_use(parts: Parts, user: Principal, called: str) -> Asleep | None:
    """The deployment of the model that `called` names, made now, to be woken; None where there is nothing to be made.

    Raises what `want` raises where no host could serve it.
    """
    try:
        reference = parse_reference(called)
    except ValueError:
        return None
    if reference.source != "registry":
        return None
    reach = user.reach("deployments.ask")
    with parts.database.reading() as work:
        model = work.models.find_model(reach, reference)
        version = work.models.find(reach, reference) if model is not None and model.first_use is not None else None
        if model is None or version is None:
            return None
        there = work.deployments.find(reach, model.name, owner=model.owner.name)
    asleep = Asleep(called, model.owner_id, model.name)
    if there is not None:
        # Somebody who asked at the same moment was first; one that serves another version stays as it is.
        return asleep if there.model_version_id == version.id else None
    # It is the owner who has allowed it: the token that asks need not be one that may deploy.
    owner = Principal(model.owner_id, model.owner.name, frozenset({"write"}), frozenset({model.owner_id}))
    said = Deploying.model_validate(model.first_use).model_dump()
    request = DeploymentRequest(**said, model=version.full_name)
    # Asleep from the transaction that makes it: who asks in between would be told that it is not ready.
    want(parts, owner, Reference(owner=model.owner.name, name=model.name), request, asleep=True)
    log.info("%s deployed %s by asking it first", user.actor, version.full_name)
    return asleep
