"""/v1/registry/models/…/lineage: what is known of a version beyond its files."""

from __future__ import annotations

from api.authentication import TheUser, guarded_router, requires
from api.parts import ThePlatform
from api.registry.endpoints import Name, Selector
from api.registry.lineage import ModelLineage, lineage
from api.registry.service import selected

router = guarded_router("registry")

_VERSION = "/v1/registry/models/{owner}/{name}/versions/{selector}"


@router.get(f"{_VERSION}/lineage")
@requires("models.read")
def get_lineage(platform: ThePlatform, user: TheUser, owner: Name, name: Name, selector: Selector) -> ModelLineage:
    """Job, spec, code, data and models that it was made from; versions that were made from it; deployments of yours."""
    return lineage(platform, user, selected(owner, name, selector))
