"""Who asks. Deny by default: a route without a declared action can't be made.

Who may do what is decided by `jobspecs.rights`: here, before the body is read, a token is refused that allows the
action on nothing; repositories keep to those whose things it may touch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from api.documented import ErrorAnswer, refusals_of
from api.errors import ApiError
from api.inference.limiting import limited, marking
from api.parts import Parts
from api.request_body import StrictRequest
from jobspecs.problems import Problem
from jobspecs.rights import RULES, SCOPES, Action, Principal
from storage.repositories.people.users import hash_token

#: Everything that answers without a token. `check_routes` refuses to start when there is more.
PUBLIC_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json", "/v1/links/{secret}"})
PUBLIC_ROUTES_MAX = 5
#: Longer than any token: not worth a look at the database.
_TOKEN_CHARS_MAX = 256
#: In the scope of a request that this process makes of itself, for a user whom it knows: no client gets at it.
ON_BEHALF_OF = "eigenwerk.on_behalf_of"
#: What lasts until the answer of a route that asks a deployed model has been sent.
_UNTIL_SENT = "eigenwerk.until_sent"

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_DECLARED: dict[Callable[..., Any], Action | Literal["public"]] = {}


def requires(action: Action) -> Callable[[Endpoint], Endpoint]:
    """Declares what an endpoint does; it stands below the router's decorator."""
    if action not in RULES:
        raise TypeError(f"{action!r} is no action: declare in jobspecs/rights.py who may do it")

    def declare(endpoint: Endpoint) -> Endpoint:
        _DECLARED[endpoint] = action
        return endpoint

    return declare


def public(endpoint: Endpoint) -> Endpoint:
    """Declares an endpoint that needs no token; its path must stand in PUBLIC_PATHS."""
    _DECLARED[endpoint] = "public"
    return endpoint


class GuardedRoute(APIRoute):
    """A route that knows what it does, asks for the token first, and reads JSON strictly."""

    #: What its refusals look like.
    refusal_model: ClassVar[type[BaseModel]] = ErrorAnswer
    #: Whether a parameter that nothing reads is refused.
    strict_query: ClassVar[bool] = True
    #: Names beside those of its parameters that are none of these: the endpoint reads them itself.
    open_query: ClassVar[re.Pattern[str] | None] = None

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if endpoint not in _DECLARED:
            raise TypeError(f"{path}: declare who may call it, with @requires(...) below the route's decorator")
        self.action = _DECLARED[endpoint]
        methods = options.get("methods") or ["GET"]
        refusals = refusals_of(path, methods, self.refusal_model, public=self.action == "public")
        options["responses"] = {**refusals, **(options.get("responses") or {})}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        action, known = self.action, _query_names(self.dependant)
        limiting, changing = self._limited, self._changing

        async def guarded(request: Request) -> Response:
            if action != "public":
                request.state.principal = _allowed(await self.authenticated(request), action)
                if self.strict_query:
                    _check_query(request, known, self.open_query)
                if limiting:
                    await _limit(request)
            try:
                return await handler(StrictRequest(request.scope, request.receive))
            finally:
                if changing:
                    request.app.state.parts.recent.forget()

        return guarded

    @property
    def _limited(self) -> bool:
        return self.action == "deployments.ask" and "POST" in (self.methods or ())

    @property
    def _changing(self) -> bool:
        return self.action != "deployments.ask" and not {"GET", "HEAD"}.issuperset(self.methods or ())

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._limited:
            await super().handle(scope, receive, send)
            return
        async with AsyncExitStack() as until_sent:
            scope[_UNTIL_SENT] = until_sent
            await super().handle(scope, receive, marking(send))

    async def authenticated(self, request: Request) -> Principal:
        """Who asks, by the token that the request brings. Raises ApiError 401."""
        return await _authenticated(request, recently=self.action == "deployments.ask")


def guarded_router(tag: str) -> APIRouter:
    return APIRouter(route_class=GuardedRoute, tags=[tag])


def check_routes(app: FastAPI) -> None:
    """Raises RuntimeError when anything of the application answers without a token and isn't on the list."""
    open_paths = set()
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if not isinstance(route, GuardedRoute):
            raise RuntimeError(f"{context.path} is not a guarded route")
        if route.action == "public":
            open_paths.add(route.path)
    if not open_paths <= PUBLIC_PATHS or len(open_paths) > PUBLIC_ROUTES_MAX:
        raise RuntimeError(f"public without being on the list: {sorted(open_paths - PUBLIC_PATHS)}")


def _query_names(dependant: Dependant) -> frozenset[str]:
    """The parameters of a route's query, with those of what it depends on."""
    own = {parameter.alias for parameter in dependant.query_params}
    return frozenset(own).union(*(_query_names(below) for below in dependant.dependencies))


def _check_query(request: Request, known: frozenset[str], open_query: re.Pattern[str] | None) -> None:
    """Raises ApiError 422 for a parameter that nothing reads: misspelt, it would change nothing and nobody be told.

    And for a NUL, which PostgreSQL takes in no text.
    """
    for name, value in request.query_params.multi_items():
        if name not in known and (open_query is None or not open_query.fullmatch(name)):
            there_are = f"there are: {', '.join(sorted(known))}" if known else "this route has none"
            problem = Problem(field=name, message=f"unknown query parameter; {there_are}.")
            raise ApiError(422, str(problem), param=name, problems=[problem])
        if "\0" in name + value:
            problem = Problem(field=name, message="it holds a NUL character.")
            raise ApiError(422, str(problem), param=name, problems=[problem])


def bearer_token(request: Request) -> str:
    """Raises ApiError 401 where there is none."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if kind.lower() != "bearer" or not token:
        raise _unauthorized("This needs a token: send `Authorization: Bearer <token>`.", None)
    return token


async def _authenticated(request: Request, *, recently: bool) -> Principal:
    """`recently`: it is enough that the token was valid a moment ago."""
    user = request.scope.get(ON_BEHALF_OF)
    if isinstance(user, Principal):
        return user
    token = bearer_token(request)
    parts: Parts = request.app.state.parts
    sha256, known = hash_token(token) if _plausible(token) else "", None
    if sha256:
        look = partial(run_in_threadpool, principal_of_hash, parts, sha256)
        known = await (parts.recent.find(sha256, look) if recently else look())
    if known is None:
        raise _unauthorized("The token is unknown, expired or revoked. Ask for a new one.", "invalid_token")
    # What flows until the token ends: `api.streaming`.
    request.state.token_sha256 = sha256
    return known


async def _limit(request: Request) -> None:
    """Counts a request to a deployed model until its answer is sent. Raises ApiError 429 for one too many."""
    parts: Parts = request.app.state.parts
    user: Principal = request.state.principal
    session = request.headers.get("x-session-id")
    asking = limited(parts.request_counts, parts.settings.request_limits, user, session)
    await request.scope[_UNTIL_SENT].enter_async_context(asking)


def _allowed(principal: Principal, action: Action) -> Principal:
    """Raises ApiError 403 for who may do this to nothing."""
    if not principal.may_try(action):
        scope = RULES[action].least
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        held = ", ".join(sorted(principal.scopes))
        raise ApiError(
            403,
            f"This needs a token with the scope {scope}; yours has: {held}.",
            headers={"WWW-Authenticate": challenge},
        )
    return principal


def _plausible(token: str) -> bool:
    return len(token) <= _TOKEN_CHARS_MAX and token.isascii() and token.isprintable()


def principal_of_hash(parts: Parts, sha256: str) -> Principal | None:
    """The user behind the token of this sum; None when it is unknown, expired or revoked."""
    with parts.database.reading() as work:
        row = work.users.valid_token(sha256)
        if row is None:
            return None
        scopes = frozenset(scope for scope in SCOPES if scope in row.scopes)
        return Principal(
            user_id=row.user.id,
            name=row.user.name,
            scopes=scopes,
            acts_for=frozenset({row.user.id}),
            expires_at=row.expires_at,
            limits=row.user.limits,
        )


def _unauthorized(message: str, error: str | None) -> ApiError:
    challenge = f'Bearer error="{error}"' if error else "Bearer"
    return ApiError(401, message, code=error or "missing_token", headers={"WWW-Authenticate": challenge})


async def _current(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal


#: The caller, in an endpoint's parameters.
TheUser = Annotated[Principal, Depends(_current)]
