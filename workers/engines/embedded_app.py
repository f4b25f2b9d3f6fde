"""The embedded engine's HTTP: our /classify, and /predict and /info in the shapes of text-embeddings-inference 1.9."""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from workers.engines.batching import Batcher, Overloaded

#: Largest request body.
BODY_BYTES_MAX = 2_000_000
#: Most texts in one request.
TEXTS_MAX = 1024
#: After a batch has run for so long the engine counts as hung.
STUCK_S = 300.0

Body = TypeVar("Body", bound=BaseModel)


class Score(Protocol):
    """A label and its probability, as the classifier gives it."""

    @property
    def label(self) -> str: ...

    @property
    def score(self) -> float: ...


#: The scores of one text, best first.
Scores = Sequence[Score]


class ClassifyBody(BaseModel):
    """POST /classify."""

    model_config = ConfigDict(extra="forbid")

    inputs: list[str] = Field(min_length=1, max_length=TEXTS_MAX)
    #: How many labels per text, best first; all of them unless given.
    top_k: int | None = Field(default=None, ge=1)


class PredictBody(BaseModel):
    """POST /predict. A list of strings is *one* pair of texts; a list of lists is a batch."""

    inputs: str | list[str] | list[list[str]]
    truncate: bool | None = None
    truncation_direction: Literal["right", "left", "Right", "Left"] = "right"
    raw_scores: bool = False


class Refused(Exception):
    """The request can't be served: the status, the kind of error in TEI's words, and why."""

    def __init__(self, status: int, error_type: str, message: str) -> None:
        super().__init__(message)
        self.status, self.error_type, self.message = status, error_type, message


@dataclass(frozen=True)
class Served:
    """The model behind the routes."""

    #: `owner/name@version`.
    model: str
    digest: str
    #: Labels by their number, as in the model's config.json.
    labels: dict[str, str]
    batcher: Batcher[Scores]


def create_app(served: Served, key: str) -> ASGIApp:
    """The application; every path but /health asks for `Authorization: Bearer <key>`."""

    async def classify(request: Request) -> Response:
        body = _parsed(ClassifyBody, await _body(request))
        results = await served.batcher.submit(body.inputs)
        top = [[{"label": score.label, "score": score.score} for score in scores[: body.top_k]] for scores in results]
        return JSONResponse({"results": top}, headers={"x-model": served.model})

    async def predict(request: Request) -> Response:
        body = _parsed(PredictBody, await _body(request))
        results = await served.batcher.submit(_predict_texts(body))
        found = [[{"score": score.score, "label": score.label} for score in scores] for scores in results]
        return JSONResponse(found[0] if isinstance(body.inputs, str) else found, headers={"x-model": served.model})

    async def health(request: Request) -> Response:
        if served.batcher.stuck_s() > STUCK_S:
            raise Refused(503, "Unhealthy", "The model does not answer.")
        return Response(status_code=200)

    async def info(request: Request) -> Response:
        return JSONResponse(_info(served))

    app = Starlette(
        routes=[
            Route("/classify", classify, methods=["POST"]),
            Route("/predict", predict, methods=["POST"]),
            Route("/health", health),
            Route("/info", info),
        ],
        exception_handlers={Refused: _refused, Overloaded: _overloaded, Exception: _failed},
    )
    return _KeyRequired(app, key)


class _KeyRequired:
    """Lets a request through only with the key; what is open is listed, everything else is closed."""

    _OPEN = frozenset({"/health"})

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._expected = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        if scope["path"] in self._OPEN or hmac.compare_digest(given, self._expected):
            await self._app(scope, receive, send)
            return
        response = _error(401, "Unauthorized", "The Authorization header lacks this engine's key.")
        await response(scope, receive, send)


async def _body(request: Request) -> bytes:
    parts, size_bytes = [], 0
    async for chunk in request.stream():
        parts.append(chunk)
        size_bytes += len(chunk)
        if size_bytes > BODY_BYTES_MAX:
            raise Refused(413, "Validation", f"The request is larger than {BODY_BYTES_MAX} bytes. Send fewer texts.")
    return b"".join(parts)


def _parsed(kind: type[Body], raw: bytes) -> Body:
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Refused(422, "Validation", f"{place or 'body'}: {first['msg']}") from error


def _predict_texts(body: PredictBody) -> list[str]:
    if body.raw_scores:
        raise Refused(422, "Validation", "raw_scores: this engine gives probabilities only. Leave it out.")
    if body.truncate is False or body.truncation_direction.lower() == "left":
        raise Refused(422, "Validation", "This engine cuts long texts at their end. Send truncate: true or nothing.")
    if isinstance(body.inputs, str):
        return [body.inputs]
    texts = [entry[0] for entry in body.inputs if isinstance(entry, list) and len(entry) == 1]
    if len(texts) != len(body.inputs):
        raise Refused(
            422, "Validation", 'This model takes single texts, not pairs. A batch is a list of lists: [["a"], ["b"]].'
        )
    if not 1 <= len(texts) <= TEXTS_MAX:
        raise Refused(422, "Validation", f"inputs: send 1 to {TEXTS_MAX} texts.")
    return texts


def _info(served: Served) -> dict[str, Any]:
    return {
        "model_id": served.model,
        "model_sha": served.digest,
        "model_type": {
            "classifier": {
                "id2label": served.labels,
                "label2id": {label: int(number) for number, label in served.labels.items()},
            }
        },
        "max_client_batch_size": TEXTS_MAX,
        "auto_truncate": True,
    }


def _error(status: int, error_type: str, message: str) -> JSONResponse:
    return JSONResponse({"error": message, "error_type": error_type}, status_code=status)


async def _refused(request: Request, error: Exception) -> Response:
    refused = cast(Refused, error)
    return _error(refused.status, refused.error_type, refused.message)


async def _overloaded(request: Request, error: Exception) -> Response:
    return _error(429, "Overloaded", str(error))


async def _failed(request: Request, error: Exception) -> Response:
    # Starlette logs the traceback; a client learns only that the fault isn't its own.
    return _error(424, "Backend", "The model failed on this request; the engine's log says why.")


def labels_of(config_json: bytes) -> dict[str, str]:
    """`id2label` of a model's config.json; empty when it has none."""
    labels = json.loads(config_json).get("id2label", {})
    return {str(number): str(label) for number, label in labels.items()}
