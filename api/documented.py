"""What the API's description says beside its routes, so that generators of clients find all of it in one document.

That is the shape of refusals, with the statuses that each route may answer, and every kind of job spec.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from jobspecs.pipelines.document import PipelineDocument
from jobspecs.problems import Problem
from jobspecs.registry import SPECS
from jobspecs.sweeps.document import SweepDocument

_COMPONENT = "#/components/schemas/{model}"
#: Any kind of job spec, told apart by `kind`; for `openapi_extra` of routes that take one.
JOB_SPEC_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _COMPONENT.format(model="JobSpec")}}},
    }
}

#: The same for routes that take a pipeline.
PIPELINE_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _COMPONENT.format(model="PipelineDocument")}}},
    }
}

#: The same for routes that take a sweep.
SWEEP_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _COMPONENT.format(model="SweepDocument")}}},
    }
}

#: Refusals of every route, of those with a name in their path, and of those that take a body or change something.
_ANYWHERE = {401: "no token that is known", 403: "the token does not allow this", 421: "another server's name"}
_ALWAYS = {422: "something in the request is wrong", 500: "a defect", 503: "a part of the platform is away"}
_NAMED = {404: "there is no such thing, or it is somebody else's"}
_TAKING = {400: "the body is not acceptable JSON", 413: "too large", 429: "too much at once", 507: "no room"}
_CHANGING = {409: "not in the present state"}


def of_type(media_type: str, **schema: str) -> dict[str, Any]:
    """FastAPI's `responses` for a success that is no JSON."""
    return {"content": {media_type: {"schema": {"type": "string", **schema}}}}


#: The same for a stream: a schema would be of its events, which each route describes in words.
EVENTS: dict[str, Any] = {"content": {"text/event-stream": {"schema": {"description": "server-sent events"}}}}


class ErrorDetail(BaseModel):
    message: str
    type: str
    #: The field that is wrong.
    param: str | None
    code: str | None
    problems: list[Problem]


class ErrorAnswer(BaseModel):
    """A refusal, in the shape that OpenAI's clients read."""

    error: ErrorDetail


class RefusalAnswer(BaseModel):
    """A refusal, in the shape that clients of text-embeddings-inference and text-generation-inference read."""

    error: str
    error_type: str


#: Of lists that can be asked for by their owner.
UNKNOWN_OWNER: dict[int | str, Any] = {404: {"model": ErrorAnswer, "description": "there is no such owner"}}


def refusals_of(path: str, methods: Collection[str], model: type[BaseModel], *, public: bool) -> dict[int | str, Any]:
    """FastAPI's `responses` for what a route may refuse. Its own ones go before these."""
    named = "{" in path
    found = {421: _ANYWHERE[421]} if public else dict(_ANYWHERE)
    if named or not public:
        found |= _ALWAYS
    if named or not (public or {"GET", "HEAD"} >= set(methods)):
        found |= _NAMED
    if not {"GET", "HEAD"} >= set(methods):
        found |= _CHANGING
    if {"POST", "PUT", "PATCH"} & set(methods):
        found |= _TAKING
    shapes = {421: ErrorAnswer, 500: ErrorAnswer}
    return {status: {"model": shapes.get(status, model), "description": why} for status, why in sorted(found.items())}


def described(app: FastAPI) -> dict[str, Any]:
    """The whole description, OpenAPI 3.1."""
    return _described(app)


@lru_cache(maxsize=8)
def _described(app: FastAPI) -> dict[str, Any]:
    document: dict[str, Any] = app.openapi()
    schemas = document["components"]["schemas"]
    names = {kind: _add(schemas, model) for kind, model in SPECS.items()}
    _add(schemas, PipelineDocument)
    _add(schemas, SweepDocument)
    references = {kind: _COMPONENT.format(model=name) for kind, name in names.items()}
    schemas["JobSpec"] = {
        "title": "JobSpec",
        "description": "A job, told apart by its kind.",
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "kind", "mapping": references},
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            _only_reference(operation.get("requestBody"))
    return document


def _add(schemas: dict[str, Any], model: type[BaseModel]) -> str:
    """Adds a document's schema with those that it refers to; its name."""
    schema = model.model_json_schema(ref_template=_COMPONENT)
    name = str(schema["title"])
    for part, content in {**schema.pop("$defs", {}), name: schema}.items():
        if schemas.setdefault(part, content) != content:
            raise RuntimeError(f"two schemas are called {part}: rename one of the models")
    return name


def _only_reference(body: dict[str, Any] | None) -> None:
    """FastAPI merges a reference into what it knows of the body; generators want it alone."""
    content = (body or {}).get("content", {}).get("application/json", {})
    if content.get("schema", {}).get("$ref"):
        content["schema"] = {"$ref": content["schema"]["$ref"]}
