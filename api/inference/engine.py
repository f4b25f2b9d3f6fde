"""Finds a deployment and asks its engine. Errors of the engine become answers for people."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import httpx
from fastapi.concurrency import run_in_threadpool
from pydantic import Field, ValidationError

from api.deployments.first_use import deployed_for_first_use
from api.errors import ApiError, unavailable
from api.inference.limiting import count_tokens, session_of
from api.inference.refusals import RETRY_AFTER_S, refusal, wrong_task
from api.inference.routing import Place
from api.inference.splitting import Chosen, choose, has_adapter, is_changing, is_ready, of_version
from api.inference.waking import Asleep
from api.parts import CONNECT_TIMEOUT_S, Parts
from jobspecs.engines import EMBEDDED, ENGINE_KINDS, EngineKind, origin_of
from jobspecs.rights import Principal
from jobspecs.tasks import ServedTask
from storage.repositories.serving.answers import Answered
from storage.tables import DeploymentRow, ModelVersionRow

log = logging.getLogger(__name__)

#: A thousand long texts take a base-sized encoder minutes on a CPU. Engines are near, or they are not there.
_ANSWER_TIMEOUT = httpx.Timeout(300.0, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S)
#: Engines give this status, a message in `error`, for requests that no repetition mends.
_REFUSED = 422
#: That there is no deployment of a name.
_UNDEPLOYED = "not_found"
#: And these are its own words as well: too large, wrong, failed on this request, too busy.
_REFUSALS = frozenset({404, 413, _REFUSED, 424, 429})

#: Of int4, which a version's number is.
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")

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
    #: Of another version, for when `places` are gone.
    fallback: tuple[Place, ...] = ()
    #: Shares that sleep when nobody asks them: those whose use is to be noted.
    tiring: tuple[UUID, ...] = ()
    #: `owner/name@version` of the adapter that is asked for, which is served beside `places`' model.
    adapter: str | None = None
    #: Those that `places` have told of.
    adapters: tuple[str, ...] = ()
    #: Other adapters may be on their way to them.
    changing: bool = False


async def deployed(parts: Parts, user: Principal, name: str, *tasks: ServedTask, session: object = None) -> Deployed:
    """The user's deployment of that name, which serves one of `tasks` (any, when none is given).

    With a candidate it is one or the other, by the request's session or by chance; `NAME@2` is the one that serves
    version 2. `session`: what the request says of whom it is for. One that sleeps is woken and waited for.

    Raises ApiError: 404 without such a deployment, 422 when it serves something else, 503 while nothing serves it.
    """
    found = await _found(parts, user, name, tasks, session)
    if isinstance(found, Asleep):
        await parts.waker.await_awake(found)
        found = await run_in_threadpool(_find, parts, user, name, tasks, session_of(session))
    if isinstance(found, Asleep):
        raise unavailable(f"The deployment {name} is not ready.", "deployment_not_ready", RETRY_AFTER_S)
    return found


async def _found(
    parts: Parts, user: Principal, name: str, tasks: tuple[ServedTask, ...], session: object
) -> Deployed | Asleep:
    """Deploys a model that isn't, where its owner lets whoever asks it first do so."""
    try:
        return await run_in_threadpool(_find, parts, user, name, tasks, session_of(session))
    except ApiError as error:
        if error.code != _UNDEPLOYED:
            raise
        made = await parts.lookups.run(partial(deployed_for_first_use, parts, user, name))
        if made is None:
            raise
        return made


async def ask(parts: Parts, engine: Deployed, path: str, body: Mapping[str, Any]) -> httpx.Response:
    """The engine's answer, a success. Raises ApiError: 413, 422 with the engine's words, 429, 503."""
    with answering(engine.name, engine.kind):
        async with _answer(parts, engine, "POST", path, _ANSWER_TIMEOUT, json=body) as response:
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
            asking = _answer(parts, engine, "POST", path, timeout, whole=False, json=body)
            response = await stack.enter_async_context(asking)
            if response.is_error and (raising or response.status_code not in _REFUSALS):
                await response.aread()
                response.raise_for_status()
        yield response


async def relay(parts: Parts, engine: Deployed, method: str, path: str, content: bytes | None = None) -> httpx.Response:
    """The engine's own answer, whether it took the request or refused it. Raises ApiError 503 when it is away."""
    with answering(engine.name, engine.kind):
        asking = _answer(parts, engine, method, path, _ANSWER_TIMEOUT, content=content)
        async with asking as response:
            count_tokens(tokens_of(response))
            return response


@asynccontextmanager
async def _answer(
    parts: Parts,
    engine: Deployed,
    method: str,
    path: str,
    timeout: httpx.Timeout,
    *,
    whole: bool = True,
    **content: Any,
) -> AsyncIterator[httpx.Response]:
    """Open within the context; meanwhile the deployment is in use."""
    places = {"places": engine.places, "fallback": engine.fallback}
    asking = parts.engines.answer(method=method, path=path, timeout=timeout, whole=whole, **places, **content)
    with parts.activity.of(engine.tiring):
        async with asking as response:
            yield response


@contextmanager
def answering(name: str, kind: EngineKind = EMBEDDED) -> Iterator[None]:
    """Turns what goes wrong between here and the engine of `name` into ApiError."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise refusal(name, kind, error.response) from error
    except httpx.PoolTimeout as error:
        message = "This server waits for as many answers as it can. Ask again shortly."
        raise unavailable(message, "too_many_answers", RETRY_AFTER_S) from error
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


def find_row(parts: Parts, user: Principal, name: str) -> tuple[DeploymentRow, ModelVersionRow | None] | None:
    """The user's wanted deployment `name` or `owner/name`; others' don't exist for the user.

    Or the one that serves an adapter of that name, and the adapter.
    """
    found = _look(parts, user, name)
    return (found.shares[0], found.adapter) if found.shares else None


@dataclass(frozen=True)
class _Found:
    """The wanted shares of a deployment, none without the first, and of its candidate."""

    shares: Sequence[DeploymentRow] = ()
    candidate: Sequence[DeploymentRow] = ()
    #: Of the hosts that answer for them.
    certificates: Mapping[str, str] = field(default_factory=dict)
    #: Set when it was not the deployment that was named, but this adapter, which it serves.
    adapter: ModelVersionRow | None = None


def _look(parts: Parts, user: Principal, name: str, version: str = "") -> _Found:
    """The deployment of that name; else the one that serves an adapter of that name, and version."""
    owner, _, own_name = name.rpartition("/")
    # PostgreSQL takes no NUL character; a path can spell it.
    if "\0" in name:
        return _Found()
    with parts.database.reading() as work:
        reach, adapter = user.reach("deployments.ask"), None
        shares, candidate = work.candidates.find_with(reach, own_name, owner=owner or None)
        if not shares and (not version or _NUMBER.fullmatch(version)):
            shares, adapter = work.served_adapters.find(
                reach, own_name, owner=owner or None, version=int(version) if version else None
            )
        rows = [*shares, *candidate]
        hosts = {row.endpoint_host for row in rows if row.endpoint and row.endpoint.startswith("https:")}
        certificates = work.hosts.certificates([host for host in hosts if host]) if hosts else {}
    return _Found(shares, candidate, certificates, adapter) if shares and shares[0].share == 0 else _Found()


def _find(
    parts: Parts, user: Principal, name: str, tasks: tuple[ServedTask, ...], session: str | None
) -> Deployed | Asleep:
    deployment, _, version = name.partition("@")
    found = _look(parts, user, deployment, version)
    if not found.shares:
        own_name = deployment.rpartition("/")[2]
        message = f"There is no deployment {deployment}. Make one: eigenwerk deploy {own_name}"
        raise ApiError(404, message, code=_UNDEPLOYED, param="model")
    task = str(found.shares[0].served_task)
    if tasks and task not in [wanted.name for wanted in tasks]:
        raise wrong_task(name, task, tasks)
    both = [*found.shares, *found.candidate]
    if not any(row.answers for row in both) and any(row.sleeping or row.woken_at is not None for row in both):
        return Asleep(name, both[0].owner_id, both[0].name)
    by_version = version and found.adapter is None
    chosen = _of_version(found, name, version) if by_version else choose(found.shares, found.candidate, session)
    if found.adapter is not None:
        answering, chosen = chosen.rows, _with_adapter(chosen, found.adapter.full_name)
        if not chosen.rows and any(is_changing(row) for row in answering):
            return Asleep(name, both[0].owner_id, both[0].name, found.adapter.full_name)
    if not chosen.rows:
        row = found.shares[0]
        why = ": ".join(part for part in (row.state, row.reason, row.message) if part)
        raise unavailable(f"The deployment {name} is not ready ({why}).", "deployment_not_ready", RETRY_AFTER_S)
    row = chosen.rows[0]
    if row.external is not None and origin_of(row.endpoint or "") not in parts.settings.external_engines:
        raise unavailable(
            f"Engines at {origin_of(row.endpoint or '')}, such as the one of {name}, are no longer allowed on this "
            "platform.",
            "engine_not_allowed",
            RETRY_AFTER_S,
        )
    places, fallback = (
        tuple(_place(row, found.shares[0].name, found.certificates) for row in rows)
        for rows in (chosen.rows, chosen.fallback)
    )
    shown = found.adapter or row.model_version
    number = shown.version if shown is not None else 0
    kind = ENGINE_KINDS.get(row.engine, EMBEDDED)
    tiring = tuple(row.id for row in both if row.idle_after_s is not None)
    adapter = found.adapter.full_name if found.adapter is not None else None
    model = adapter or row.served
    endpoint_model, had = kind.known(row.endpoint_model)
    # While the adapters are changed, hosts may have different ones.
    adapters = tuple(one for one in had if all(one in kind.known(other.endpoint_model)[1] for other in chosen.rows))
    changing = any(is_changing(row) for row in chosen.rows)
    return Deployed(
        name, model, number, task, places, kind, endpoint_model, fallback, tiring, adapter, adapters, changing
    )


def _with_adapter(chosen: Chosen, adapter: str) -> Chosen:
    """Those whose engines have it: older ones go on while others start."""
    return Chosen(*([row for row in rows if has_adapter(row, adapter)] for rows in (chosen.rows, chosen.fallback)))


def _of_version(found: _Found, name: str, version: str) -> Chosen:
    """What answers as the version. Raises ApiError 404 when it is not served here: no other one answers instead."""
    rows = of_version(found.shares, found.candidate, int(version)) if _NUMBER.fullmatch(version) else ()
    if not rows:
        served = " and ".join(rows[0].served for rows in (found.shares, found.candidate) if rows)
        message = f"There is no {name} here; {name.partition('@')[0]} serves {served}."
        raise ApiError(404, message, code="model_not_found", param="model")
    ready = [row for row in rows if is_ready(row)]
    if not ready:
        raise unavailable(f"{name} is not ready ({rows[0].state}).", "deployment_not_ready", RETRY_AFTER_S)
    return Chosen(ready)


def _place(row: DeploymentRow, deployment: str, certificates: Mapping[str, str]) -> Place:
    # An engine that somebody else runs has no certificate of the host that registers it.
    certificate = certificates.get(row.endpoint_host or "") if row.external is None else None
    answered = Answered(row.owner_id, deployment, row.served)
    return Place(row.endpoint or "", row.endpoint_key or "", certificate, row.replicas, answered)
