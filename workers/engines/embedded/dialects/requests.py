"""Reading the requests of an engine, and refusing them in the shape of text-embeddings-inference 1.9:

{"error": "what is wrong", "error_type": "Validation" | "Overloaded" | "Backend" | "Unhealthy" | ...}
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from jobspecs.dialects import TEI, Request
from jobspecs.validation import problems_of
from workers.engines.embedded.batching import Overloaded

#: Empty texts say nothing: they are refused with their place, in every dialect.
Text = Annotated[str, Field(min_length=1)]
#: A token's number.
TokenId = Annotated[int, Field(ge=0)]
#: Largest request body.
BODY_BYTES_MAX = 2_000_000

Body = TypeVar("Body", bound=BaseModel)


class Refused(Exception):
    """The request can't be served: the status, the kind of error in TEI's words, why, and the field at fault."""

    def __init__(self, status: int, error_type: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.error_type, self.message, self.field = status, error_type, message, field


def invalid(field: str, why: str) -> Refused:
    """422: a field of the request is wrong."""
    return Refused(422, "Validation", f"{field}: {why}", field)


class Truncation(Request):
    """What TEI's requests say about long texts: unless they may be cut they are refused, as by TEI itself."""

    dialect = TEI

    truncate: bool | None = None
    truncation_direction: Literal["right", "left", "Right", "Left"] = "right"

    def check(self) -> None:
        """Raises Refused for what the engine doesn't do."""
        if self.truncation_direction.lower() == "left":
            raise invalid("truncation_direction", "this engine cuts long texts at their end.")


async def read(kind: type[Body], request: HttpRequest) -> Body:
    """The request's body. Raises Refused: 413 when it is too large, 422 when it has another shape."""
    return parsed(kind, await content_of(request))


def parsed(kind: type[Body], content: bytes) -> Body:
    """`content` as a `kind`. Raises Refused naming the first field that is wrong."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = problems_of(error, _document(content))[0]
        if first.field is None:
            raise Refused(422, "Validation", f"body: {first.message}") from error
        raise invalid(first.field, first.message) from error


def _document(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


async def content_of(request: HttpRequest) -> bytes:
    """The request's whole body. Raises Refused when it is too large."""
    parts, size_bytes = [], 0
    async for chunk in request.stream():
        parts.append(chunk)
        size_bytes += len(chunk)
        if size_bytes > BODY_BYTES_MAX:
            raise Refused(413, "Validation", f"The request is larger than {BODY_BYTES_MAX} bytes. Send fewer texts.")
    return b"".join(parts)


def error_answer(status: int, error_type: str, message: str, field: str | None = None) -> JSONResponse:
    """`param` names the field, as in OpenAI's errors, which the API writes."""
    named = {"param": field} if field is not None else {}
    return JSONResponse({"error": message, "error_type": error_type, **named}, status_code=status)


async def refused(request: HttpRequest, error: Exception) -> Response:
    """Answers Refused."""
    refusal = cast(Refused, error)
    return error_answer(refusal.status, refusal.error_type, refusal.message, refusal.field)


async def overloaded(request: HttpRequest, error: Exception) -> Response:
    """Answers Overloaded."""
    return error_answer(429, "Overloaded", str(cast(Overloaded, error)))


async def failed(request: HttpRequest, error: Exception) -> Response:
    """Answers whatever else a model raises."""
    # Starlette logs the traceback; a client learns only that the fault isn't its own.
    return error_answer(424, "Backend", "The model failed on this request; the engine's log says why.")
