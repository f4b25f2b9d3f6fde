"""Finds a deployment and asks its engine. Errors of the engine become answers for people."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
from fastapi.concurrency import run_in_threadpool
from pydantic import Field, ValidationError

from api.errors import ApiError, unavailable
from api.inference.limiting import count_tokens
from api.inference.routing import Place
from api.parts import CONNECT_TIMEOUT_S, Parts
from jobspecs.engines import EMBEDDED, ENGINE_KINDS, EngineKind, origin_of
from jobspecs.rights import Principal
from jobspecs.tasks import SERVED_TASKS, ServedTask
from storage.tables import DeploymentRow

log = logging.getLogger(__name__)

RETRY_AFTER_S = 2
#: A thousand long texts take a base-sized encoder minutes on a CPU. Engines are near, or they are not there.
_ANSWER_TIMEOUT = httpx.Timeout(300.0, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S)
#: Engines give this status, a message in `error`, for requests that no repetition mends.
_REFUSED = 422
#: And these are its own words as well: too large, wrong, failed on this request, too busy.
_REFUSALS = frozenset({404, 413, _REFUSED, 424, 429})
#: Engines of others refuse requests with these; 400 is OpenAI's own word for it.
_WRONG_REQUESTS = frozenset({400, _REFUSED})
#: What engines say when a text is longer than the model can read; OpenAI's clients know the code.
_NO_WORDS = "The model refuses this request."
_CONTEXT_LENGTH = "context_length_exceeded"
#: And when a request names an adapter that they have not.
_NOT_FOUND = "not_found"

#: How requests name what shall answer: a deployment of the user's, `name` or `owner/name`.
ModelName = Annotated[str, Field(min_length=1, max_length=300, description="the name of a deployment")]


@dataclass(frozen=True)
class Deployed:
    """A deployment, and where its engines listen."""

    #: As the request named it.
    name: str
    #: `owner/name@version` of the version that is wanted; while it is being started, an older one answers.
    model: str
    version: int
    #: Of the wanted version's manifest.
    task: str
    places: tuple[Place, ...]
    kind: EngineKind = EMBEDDED
    #: What requests to the engine must call the model; None: what they like.
    endpoint_model: str | None = None


async def deployed(parts: Parts, user: Principal, name: str, *tasks: ServedTask) -> Deployed:
    """The user's deployment of that name, which serves one of `tasks` (any, when none is given).

    Raises ApiError: 404 without such a deployment, 422 when it serves something else, 503 while nothing serves it.
    """
    return await run_in_threadpool(_find, parts, user, name, tasks)


async def ask(parts: Parts, engine: Deployed, path: str, body: Mapping[str, Any]) -> httpx.Response:
    """The engine's answer, a success. Raises ApiError: 413, 422 with the engine's words, 429, 503."""
    with answering(engine.name, engine.kind):
        async with parts.engines.answer(engine.places, "POST", path, timeout=_ANSWER_TIMEOUT, json=body) as response:
            response.raise_for_status()
            count_tokens(tokens_of(response))
            return response


@asynccontextmanager
async def ask_streaming(
    parts: Parts, engine: Deployed, path: str, body: Mapping[str, Any], *, silence_s: float, raising: bool = True
) -> AsyncIterator[httpx.Response]:
    """As `ask`, for an answer that comes piece by piece: read it within the context.

    `silence_s`: seconds that may pass without a byte. `raising=False`: what the engine refuses is an answer as well.
    """
    timeout = httpx.Timeout(silence_s, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S)
    async with AsyncExitStack() as stack:
        with answering(engine.name, engine.kind):
            asking = parts.engines.answer(engine.places, "POST", path, timeout=timeout, whole=False, json=body)
            response = await stack.enter_async_context(asking)
            if response.is_error and (raising or response.status_code not in _REFUSALS):
                await response.aread()
                response.raise_for_status()
        yield response


async def relay(parts: Parts, engine: Deployed, method: str, path: str, content: bytes | None = None) -> httpx.Response:
    """The engine's own answer, whether it took the request or refused it. Raises ApiError 503 when it is away."""
    with answering(engine.name, engine.kind):
        asking = parts.engines.answer(engine.places, method, path, timeout=_ANSWER_TIMEOUT, content=content)
        async with asking as response:
            count_tokens(tokens_of(response))
            return response


@contextmanager
def answering(name: str, kind: EngineKind = EMBEDDED) -> Iterator[None]:
    """Turns what goes wrong between here and the engine of `name` into ApiError."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise _refusal(name, kind, error.response) from error
    except (httpx.HTTPError, ValidationError) as error:
        log.warning("the engine of %s did not answer as it should: %s", name, error)
        raise unavailable(f"The deployment {name} does not answer.", "engine_unavailable", RETRY_AFTER_S) from error


def wrong_answer(name: str, what: str) -> ApiError:
    """503: the engine's answer is not one to this question; `what` is for the log."""
    log.error("the engine of %s %s", name, what)
    return unavailable(f"The deployment {name} answered wrongly.", "engine_error", RETRY_AFTER_S)


def version_of(response: httpx.Response, engine: Deployed) -> int:
    """The version that answered, by the engine's header `x-model: owner/name@version`."""
    _, _, version = response.headers.get("x-model", "").rpartition("@")
    return int(version) if version.isdecimal() else engine.version


def tokens_of(response: httpx.Response) -> int:
    """How many tokens went through the model, by the engine's header `x-tokens`; 0 when it doesn't say."""
    tokens = response.headers.get("x-tokens", "")
    return int(tokens) if tokens.isdecimal() else 0


def truncated_by(response: httpx.Response) -> int | None:
    """How many texts the model has not read to their end, by the engine's header `x-truncated`; None for none."""
    texts = response.headers.get("x-truncated", "")
    return int(texts) if texts.isdecimal() else None


def find_row(parts: Parts, user: Principal, name: str) -> DeploymentRow | None:
    """The user's wanted deployment `name` or `owner/name`; others' don't exist for the user."""
    return next(iter(_find_shares(parts, user, name)[0]), None)


def _find_shares(parts: Parts, user: Principal, name: str) -> tuple[Sequence[DeploymentRow], Mapping[str, str]]:
    """Its wanted shares, none without the first; and certificates of the hosts that answer for them."""
    owner, _, own_name = name.rpartition("/")
    # PostgreSQL takes no NUL character; a path can spell it.
    if "\0" in name:
        return [], {}
    with parts.database.reading() as work:
        rows = work.deployments.find_shares(user.reach("deployments.ask"), own_name, owner=owner or None)
        wanted = [row for row in rows if row.wanted]
        hosts = {row.endpoint_host for row in wanted if row.endpoint and row.endpoint.startswith("https:")}
        certificates = work.hosts.certificates([host for host in hosts if host]) if hosts else {}
    return (wanted, certificates) if wanted and wanted[0].share == 0 else ([], {})


def _find(parts: Parts, user: Principal, name: str, tasks: tuple[ServedTask, ...]) -> Deployed:
    rows, certificates = _find_shares(parts, user, name)
    if not rows:
        raise ApiError(
            404,
            f"There is no deployment {name}. Make one: eigenwerk deploy {name.rpartition('/')[2]}",
            code="not_found",
            param="model",
        )
    task = str(rows[0].served_task)
    if tasks and task not in [wanted.name for wanted in tasks]:
        raise _wrong_task(name, task, tasks)
    # Not its state: while a new version is being started, the old one goes on answering at its endpoint.
    answering = [row for row in rows if row.endpoint is not None and row.endpoint_key is not None]
    if not answering:
        row = rows[0]
        why = ": ".join(part for part in (row.state, row.reason, row.message) if part)
        raise unavailable(f"The deployment {name} is not ready ({why}).", "deployment_not_ready", RETRY_AFTER_S)
    row = answering[0]
    if row.external is not None and origin_of(row.endpoint or "") not in parts.settings.external_engines:
        raise unavailable(
            f"Engines at {origin_of(row.endpoint or '')}, such as the one of {name}, are no longer allowed on this "
            "platform.",
            "engine_not_allowed",
            RETRY_AFTER_S,
        )
    version = row.model_version.version if row.model_version is not None else 0
    kind = ENGINE_KINDS.get(row.engine, EMBEDDED)
    places = tuple(_place(row, certificates) for row in answering)
    return Deployed(name, row.served, version, task, places, kind, row.endpoint_model)


def _place(row: DeploymentRow, certificates: Mapping[str, str]) -> Place:
    # An engine that somebody else runs has no certificate of the host that registers it.
    certificate = certificates.get(row.endpoint_host or "") if row.external is None else None
    return Place(row.endpoint or "", row.endpoint_key or "", certificate, row.replicas)


def _wrong_task(name: str, task: str, wanted: tuple[ServedTask, ...]) -> ApiError:
    served = SERVED_TASKS.get(task)
    what = f"{served.noun} ({task}); ask it at {served.route}" if served else f"a model for {task}"
    return ApiError(
        422,
        f"The deployment {name} is {what}. This route needs {' or '.join(task.noun for task in wanted)}.",
        code="wrong_task",
        param="model",
    )


def _refusal(name: str, kind: EngineKind, response: httpx.Response) -> ApiError:
    status = response.status_code
    log.warning("the engine of %s answered %d", name, status)
    if status == 413:
        return ApiError(413, "These are too many or too long texts for one request. Send fewer.")
    if status == 429:
        return ApiError(
            429,
            f"Too many texts wait for the deployment {name}. Try again, or give it more replicas.",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )
    error_type, message, param = _words_of(response)
    if status == 404 and error_type == _NOT_FOUND:
        return ApiError(404, message, code="model_not_found", param=param)
    if status in _WRONG_REQUESTS:
        if error_type == _CONTEXT_LENGTH or any(sign in f"{error_type} {message}" for sign in kind.too_long):
            return ApiError(400, message, code=_CONTEXT_LENGTH, param=param)
        return ApiError(status, message, param=param)
    return unavailable(f"The deployment {name} can't answer now.", "engine_error", RETRY_AFTER_S)


def _words_of(response: httpx.Response) -> tuple[str, str, str | None]:
    """The kind of error, the message, and the field that it is about."""
    try:
        document = response.json()
    except ValueError:
        document = None
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(document, dict) and isinstance(error, str):
        return str(document.get("error_type", "")), error, _text(document.get("param"))
    if isinstance(error, dict):  # as OpenAI has it
        return str(error.get("type", "")), str(error.get("message") or _NO_WORDS), _text(error.get("param"))
    return "", _NO_WORDS, None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
