"""Errors, in one shape everywhere, the one that OpenAI's clients read:

    {"error": {"message", "type", "param", "code", "problems"}}

ApiError              a status, a code for programs, a message for people
InvalidInput          422: what is wrong, where, and what to do
NotAllowed            403: the principal's rights don't reach that far
OwnerGone             401: the user was deleted while the request was under way
OSError               507 when a disk is full; so are DatabaseFull and ObjectStoreFull
DatabaseUnavailable   503 with Retry-After; so is ObjectStoreUnavailable
anything else         500 with the request's id; the details are in the log only
"""

from __future__ import annotations

import errno
import logging
import traceback
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from itertools import islice
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from jobspecs.problems import PROBLEMS_MAX, InvalidInput, Problem
from jobspecs.rights import NotAllowed
from jobspecs.validation import problems_in
from storage.database import DatabaseFull, DatabaseUnavailable
from storage.database_errors import OwnerGone
from storage.objects import (
    ObjectCorrupt,
    ObjectNotFound,
    ObjectStoreFull,
    ObjectStoreRefused,
    ObjectStoreUnavailable,
    TransferStopped,
)
from storage.repositories.registry.blobs import BlobsGone

log = logging.getLogger(__name__)

#: Seconds after which a client may ask again when a part of the platform is away.
RETRY_AFTER_S = 5

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {
    400: "bad_request",
    401: "invalid_token",
    403: "insufficient_scope",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    421: "unknown_host",
    422: "invalid_input",
}


#: What is wrong with a part of the platform: status, code and message of the first kind that fits.
_OF_PARTS: tuple[tuple[type[Exception], int, str, str], ...] = (
    (
        OSError,
        507,
        "disk_full",
        "The server's disk is full; nothing was changed. Free space in its spool folder (EIGENWERK_SPOOL_DIR).",
    ),
    (
        ObjectStoreFull,
        507,
        "object_store_full",
        "The object store is full; nothing was changed. Delete what nobody needs, or give it more room.",
    ),
    (
        DatabaseFull,
        507,
        "database_full",
        "The disk of PostgreSQL is full; nothing was changed. Its operator must free space or add some.",
    ),
    (DatabaseUnavailable, 503, "database_unavailable", "The database does not answer. Try again shortly."),
    (
        ObjectStoreRefused,
        503,
        "object_store_refused",
        "The object store refuses the platform's requests. Its operator must check bucket and keys.",
    ),
    (ObjectStoreUnavailable, 503, "object_store_unavailable", "The object store does not answer. Try again shortly."),
    (BlobsGone, 503, "push_took_too_long", "What was sent is gone by now: the push took too long. Send it again."),
    (TransferStopped, 503, "stopping", "The server is going away. Send it again shortly."),
)


class ApiError(HTTPException):
    """An answer that is not a success."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        problems: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.code = code or _CODES.get(status)
        self.param = param
        self.problems = tuple(problems)


def not_found(what: str) -> ApiError:
    """404: it does not exist, or it is somebody else's; nobody learns which."""
    return ApiError(404, f"There is no {what}.")


def not_yours(what: str, owner: str) -> ApiError:
    """403: another owner lets everyone read it, and that alone."""
    return ApiError(403, f"The {what} is {owner}'s, who alone can change it.", code="not_yours")


def unavailable(message: str, code: str = "unavailable", retry_after_s: int = RETRY_AFTER_S) -> ApiError:
    return ApiError(503, message, code=code, headers={"Retry-After": str(retry_after_s)})


def is_disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def error_response(error: ApiError) -> JSONResponse:
    status = error.status_code
    body = {
        "message": error.detail,
        "type": _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error"),
        "param": error.param,
        "code": error.code,
        "problems": [problem.model_dump(mode="json") for problem in error.problems],
    }
    return JSONResponse({"error": body}, status, dict(error.headers or {}))


#: What `api_error` has an answer for. Anything else is a defect, which `api.middleware` answers.
KNOWN_ERRORS: tuple[type[Exception], ...] = (
    HTTPException,
    RequestValidationError,
    InvalidInput,
    NotAllowed,
    OwnerGone,
    DatabaseUnavailable,
    ObjectStoreUnavailable,
    ObjectStoreRefused,
    BlobsGone,
    TransferStopped,
    ObjectCorrupt,
    ObjectNotFound,
    OSError,
)


def add_error_handlers(app: FastAPI) -> None:
    """Unknown exceptions are no matter of this function: `api.middleware` answers them."""
    for kind in KNOWN_ERRORS:
        app.add_exception_handler(kind, _answer)


def api_error(request: Request, error: Exception) -> ApiError:
    """What a known error means for whoever asked. Raises the error itself when it is none of KNOWN_ERRORS."""
    if isinstance(error, HTTPException):
        return _http_error(request, error)
    if isinstance(error, RequestValidationError):
        return _refusal(_problems(error))
    if isinstance(error, InvalidInput):
        return _refusal(error.problems)
    if isinstance(error, NotAllowed):
        return ApiError(403, str(error))
    if isinstance(error, OwnerGone):
        return ApiError(401, str(error))
    if isinstance(error, ObjectCorrupt | ObjectNotFound):
        log.error("%s %s: %s", request.method, request.url.path, error)
        message = "A stored object is damaged or missing. Restore it from a backup, or push or train it again."
        return ApiError(500, message, code="corrupt_artifact")
    if isinstance(error, OSError) and not is_disk_full(error):
        raise error
    log.warning("%s %s: %s", request.method, request.url.path, error)
    for kind, status, code, message in _OF_PARTS:
        if isinstance(error, kind):
            return unavailable(message, code) if status == 503 else ApiError(status, message, code=code)
    raise error


async def _answer(request: Request, error: Exception) -> JSONResponse:
    known = api_error(request, error)
    # What no route of the hub's takes is refused in the shape that its clients read.
    hub = request.url.path.startswith("/hf/")
    answer = JSONResponse({"error": known.detail}, known.status_code, known.headers) if hub else error_response(known)
    _let_go(error)
    return answer


def _let_go(error: BaseException | None) -> None:
    """Frees what the frames that raised it hold, such as 80,000 fields of a refused body, which are 12 MB.

    An error that comes out of a thread is in a cycle with the future that brought it, and so are its frames: they would
    stay until a full garbage collection, which is a rare thing in a process with many objects.
    """
    seen: set[int] = set()
    # One that is its own cause would be followed for ever, and with it the event loop.
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _http_error(request: Request, error: HTTPException) -> ApiError:
    if isinstance(error, ApiError):
        return error
    message = str(error.detail)
    if error.status_code == 404:
        message = f"There is no {request.method} {request.url.path}. GET /openapi.json lists what there is."
    if error.status_code == 405:
        message = f"{request.method} is not possible on {request.url.path}."
    if message == HTTPStatus(error.status_code).phrase:
        message = f"{message}."
    return ApiError(error.status_code, message, headers=error.headers)


def _refusal(problems: Sequence[Problem]) -> ApiError:
    problems = problems[:PROBLEMS_MAX]
    return ApiError(422, "; ".join(str(problem) for problem in problems), param=problems[0].field, problems=problems)


def _problems(error: RequestValidationError) -> list[Problem]:
    """What is wrong with the body, or with the query, path and headers."""
    in_body: list[dict[str, Any]] = []
    elsewhere: list[dict[str, Any]] = []
    # The first part says where the field was: body, query, path or header.
    for detail in islice(error.errors(), PROBLEMS_MAX):
        where, *location = detail["loc"]
        (in_body if where == "body" else elsewhere).append({**detail, "loc": location})
    names = {detail["loc"][0]: None for detail in elsewhere if detail["loc"]}
    return [*problems_in(elsewhere, names), *problems_in(in_body, error.body)]
