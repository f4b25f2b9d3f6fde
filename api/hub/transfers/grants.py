"""Grants: what stands for a token where clients send none, for one repository and one hour.

Clients send the parts of a large file to the addresses that they are told, as they would to an object store, without
their token. A grant names the token by its sum and is signed: with the token it ends.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from api.authentication import bearer_token, principal_of_hash
from api.errors import ApiError
from api.hub.repositories import Repository
from api.hub.routes import HubRoute, repository_of
from api.parts import Parts
from jobspecs.rights import Principal
from jobspecs.strict_json import UnacceptableJson, parse_json
from storage.repositories.people.users import hash_token

#: Seconds for which it holds. hf-xet asks for a new one in time; one part of a file does not take longer.
LIFE_S = 3600
_CHARS_MAX = 2000


def grant(parts: Parts, request: Request, repository: Repository) -> tuple[str, int]:
    """The grant, and when it ends, in seconds since 1970."""
    ends = int(time.time()) + LIFE_S
    content = {
        "token": hash_token(bearer_token(request)),
        "kind": repository.kind,
        "owner": repository.owner,
        "name": repository.name,
        "ends": ends,
    }
    body = base64.urlsafe_b64encode(json.dumps(content).encode()).decode()
    return f"{body}.{_signature(parts, body)}", ends


class GrantedRoute(HubRoute):
    """A route with `{owner}` in its path that takes a grant, in `?grant=` or as the bearer token, or a token."""

    async def authenticated(self, request: Request) -> Principal:
        parts: Parts = request.app.state.parts
        given = request.query_params.get("grant") or bearer_token(request)
        content = _opened(parts, given)
        if content is None:
            return await super().authenticated(request)
        principal = await run_in_threadpool(principal_of_hash, parts, str(content["token"]))
        if principal is None or content["owner"] != request.path_params["owner"]:
            raise ApiError(401, "The token behind this upload has ended. Begin it again.", code="invalid_token")
        request.state.granted = repository_of(*(str(content[key]) for key in ("kind", "owner", "name")))
        return principal


def granted(request: Request) -> Repository | None:
    """The repository that the request's grant is for; None where a token came with it."""
    found: Repository | None = getattr(request.state, "granted", None)
    return found


def _opened(parts: Parts, given: str) -> Mapping[str, object] | None:
    """What a grant says; None for what is none, or is over."""
    body, _, signature = given[:_CHARS_MAX].partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(parts, body).encode()):
        return None
    try:
        content = parse_json(base64.urlsafe_b64decode(body))
    except (ValueError, UnacceptableJson):
        return None
    ends = content["ends"]
    return content if isinstance(ends, int) and ends > time.time() else None


def _signature(parts: Parts, body: str) -> str:
    """By a key that all processes of the API have, and nobody else."""
    key = hmac.digest(parts.settings.storage.s3_secret_key.encode(), b"eigenwerk hub grants", hashlib.sha256)
    return hmac.new(key, body.encode(), hashlib.sha256).hexdigest()
