"""Writes a request as its engine takes it: what it reads, and who shall answer by the name that it knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from api.errors import ApiError, unavailable
from api.inference.engine import Deployed
from api.inference.refusals import RETRY_AFTER_S
from jobspecs.engines import CHAT, COMPLETIONS, EMBEDDED, TGI_MODEL, Unserved, what_is_read


def for_engine(engine: Deployed, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The request as the engine takes it.

    Raises ApiError for a field that the engine would pass over, and 404 for an adapter that it does not have.
    """
    engine, body = _addressed(engine, path, body)
    read = what_is_read(engine.kind, path, body)
    if isinstance(read, Unserved):
        raise ApiError(422, read.message, param=read.field)
    if engine.adapter is not None:
        return _of_the_adapter(engine, engine.adapter, path, read)
    if engine.endpoint_model is None:
        return read
    if path in (CHAT, COMPLETIONS):
        return {**read, "model": engine.endpoint_model}
    if engine.kind.adapter_field and engine.endpoint_model != TGI_MODEL:
        return _with_parameter(read, engine.endpoint_model)
    return read


def _addressed(engine: Deployed, path: str, body: Mapping[str, Any]) -> tuple[Deployed, Mapping[str, Any]]:
    """The engine, with the adapter that the request names by `adapter_id`, and the request without that name.

    The embedded engine reads `adapter_id` itself; one that serves no adapters beside a model refuses it, or is asked.
    """
    asked, rest = _taken(path, body)
    if asked is None or not engine.kind.adapters_beside:
        return engine, body
    if engine.adapter is not None:
        if asked != engine.adapter:
            raise _unknown(path, f"the model that is asked is an adapter already: {engine.adapter}.")
        return engine, rest
    if engine.kind is EMBEDDED and engine.endpoint_model is not None:
        message = f"The deployment {engine.name} is being changed to another engine, which will have the adapters."
        raise unavailable(message, "deployment_not_ready", RETRY_AFTER_S)
    alike = [name for name in engine.adapters if asked == name]
    alike = alike or [name for name in engine.adapters if _is_called(name, asked)]
    if not alike and engine.changing:
        message = f"The deployment {engine.name} is being changed, and may come to have an adapter {asked}."
        raise unavailable(f"{message} Ask again shortly.", "deployment_not_ready", RETRY_AFTER_S)
    if engine.kind is EMBEDDED:
        return engine, body
    if len(alike) != 1:
        served = f"it has {', '.join(engine.adapters)}" if engine.adapters else "it has none to choose from"
        raise _unknown(path, f"there is no one adapter {asked} in this deployment: {served}.")
    return replace(engine, adapter=alike[0]), rest


def _taken(path: str, body: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """`adapter_id`, None where the request has none, and the request without it."""
    if path in (CHAT, COMPLETIONS):
        return body.get("adapter_id"), {name: value for name, value in body.items() if name != "adapter_id"}
    parameters = body.get("parameters")
    if not isinstance(parameters, dict):
        return None, dict(body)
    rest = {name: value for name, value in parameters.items() if name != "adapter_id"}
    return parameters.get("adapter_id"), {**body, "parameters": rest}


def _is_called(name: str, asked: Any) -> bool:
    bare = name.partition("@")[0]
    return asked in (bare, bare.rpartition("/")[2])


def _unknown(path: str, why: str) -> ApiError:
    if path in (CHAT, COMPLETIONS):
        return ApiError(404, f"adapter_id: {why}", code="model_not_found", param="adapter_id")
    return ApiError(404, f"Input validation error: `parameters.adapter_id`: {why}", param="parameters.adapter_id")


def _of_the_adapter(engine: Deployed, adapter: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A request to the base that names the adapter as the engine knows it."""
    name = engine.kind.adapter_name(adapter)
    if path not in (CHAT, COMPLETIONS):
        return _with_parameter(body, name)
    return {**body, "adapter_id" if engine.kind is EMBEDDED else "model": name}


def _with_parameter(body: dict[str, Any], adapter: str) -> dict[str, Any]:
    """A request in TGI's shape that names the adapter."""
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        return body  # the engine refuses it
    # Without parameters TGI samples, with them it does not unless it is told to.
    return {**body, "parameters": {"do_sample": "parameters" not in body, **parameters, "adapter_id": adapter}}
