"""How much a user may ask: requests and tokens in a minute, and requests at once, over all replicas of the API.

Routes that ask deployed models go through `limited`, whatever their dialect; what is refused is refused in its shape.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from api.errors import ApiError
from jobspecs.limits import RequestLimits
from jobspecs.rights import Principal
from storage.request_counts import LEASE_S, Admission, RequestCounts

#: Seconds between two renewals of the leases of requests in flight.
RENEW_EVERY_S = LEASE_S / 3
_WINDOW_S = 61.0


@dataclass
class Asking:
    """One request to deployed models."""

    #: Requests of one session are answered by the same version; None: it is by itself.
    session: str | None = None
    #: That went through models for it, as far as is known.
    tokens: int = 0
    #: What its answer says of the user's limits.
    headers: Mapping[str, str] = field(default_factory=dict)


_ASKING: ContextVar[Asking | None] = ContextVar("asking", default=None)


def count_tokens(tokens: int) -> None:
    """Counts tokens for the request that is being answered."""
    asking = _ASKING.get()
    if asking is not None:
        asking.tokens += tokens


def marking(send: Send) -> Send:
    """Sends the answer with what it says of the user's limits."""

    async def marked(message: Message) -> None:
        asking = _ASKING.get()
        if message["type"] == "http.response.start" and asking is not None:
            MutableHeaders(scope=message).update(asking.headers)
        await send(message)

    return marked


def session_of(said: object = None) -> str | None:
    """What the request's body says of who asks, if it is a text, else its header `X-Session-Id`."""
    asking = _ASKING.get()
    return said if isinstance(said, str) and said else asking.session if asking is not None else None


@asynccontextmanager
async def limited(
    counts: RequestCounts, limits: RequestLimits, user: Principal, session: str | None = None
) -> AsyncIterator[Asking]:
    """Around one request, until its answer has been sent. Raises ApiError 429 for one too many.

    While Redis is away there are no limits.
    """
    limits = user.limits.over(limits)
    asking = Asking(session)
    marked = _ASKING.set(asking)
    admission = await counts.admit(user.user_id, limits) if limits.any else None
    try:
        if admission is not None:
            if admission.beyond:
                raise _refusal(user, limits, admission)
            asking.headers = _headers(limits, admission)
        yield asking
    finally:
        _ASKING.reset(marked)
        if admission is not None and not admission.beyond:
            await counts.end(admission, asking.tokens if limits.tokens_per_minute else 0)


def _headers(limits: RequestLimits, admission: Admission) -> dict[str, str]:
    """As OpenAI's clients read them."""
    headers: dict[str, str] = {}
    requests = "requests", limits.requests_per_minute, admission.requests
    tokens = "tokens", limits.tokens_per_minute, admission.tokens
    for what, limit, used in (requests, tokens):
        if limit:
            # Of one that is refused, when there is room again; else until nothing of this minute counts any more.
            reset_s = admission.wait_s if admission.beyond == what else _WINDOW_S if used else 0
            headers[f"x-ratelimit-limit-{what}"] = str(limit)
            headers[f"x-ratelimit-remaining-{what}"] = str(max(0, limit - used))
            headers[f"x-ratelimit-reset-{what}"] = f"{math.ceil(reset_s)}s"
    return headers


def _refusal(user: Principal, limits: RequestLimits, admission: Admission) -> ApiError:
    wait_s = max(1, math.ceil(admission.wait_s))
    what = {
        "requests": f"{limits.requests_per_minute} requests in a minute",
        "tokens": f"{limits.tokens_per_minute} tokens in a minute",
        "concurrency": f"{limits.concurrent_requests} requests at once",
    }[admission.beyond]
    return ApiError(
        429,
        f"Rate limit reached: {user.name} may ask for {what}. Try again in {wait_s} s. "
        f"An administrator can allow more: eigenwerk users limits {user.name}",
        code="rate_limit_exceeded",
        headers={**_headers(limits, admission), "Retry-After": str(wait_s)},
    )
