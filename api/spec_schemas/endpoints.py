"""/v1/schemas: what a spec of each kind may hold, as JSON Schema for editors and generators."""

from __future__ import annotations

from typing import Any

from api.authentication import guarded_router, requires
from api.errors import not_found
from jobspecs.pipelines.document import KIND
from jobspecs.pipelines.schema import pipeline_schema
from jobspecs.registry import SPECS

router = guarded_router("schemas")


@router.get("/v1/schemas")
@requires("schemas.read")
async def list_schemas() -> dict[str, Any]:
    """The job kinds."""
    return {"object": "list", "data": [{"kind": kind, "url": f"/v1/schemas/{kind}"} for kind in SPECS]}


@router.get("/v1/schemas/{kind}")
@requires("schemas.read")
async def get_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of one kind of job, or of a pipeline."""
    if kind not in SPECS and kind != KIND:
        raise not_found(f"kind {kind!r}; there are: {', '.join([*SPECS, KIND])}")
    schema = pipeline_schema() if kind == KIND else SPECS[kind].model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
