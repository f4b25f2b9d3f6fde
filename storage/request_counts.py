"""What users ask of deployed models at this moment and in the last minute, counted in Redis for all replicas.

A request in flight is a *lease*: the replica that answers it renews it, and one of a replica that died runs out. Times
are Redis's own, so that replicas with different clocks count alike.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID, uuid4

import redis
import redis.asyncio

from jobspecs.limits import RequestLimits
from storage.progress import connection_options

log = logging.getLogger(__name__)

#: Seconds after which an unrenewed lease is void.
LEASE_S = 30.0
#: Seconds that Redis has to answer, and for which it is not asked once it has not.
_PATIENCE_S, _REST_S = 0.5, 5.0

#: Counts are kept by the second. What was counted in a second counts until the minute after its end is over.
_ADMIT = """
local clock = redis.call('TIME')
local second, now = tonumber(clock[1]), tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local requests_max, tokens_max, leases_max = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local function counted(key)
  local sum, seconds, all = 0, {}, redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local at, count = tonumber(all[i]), tonumber(all[i + 1])
    if at < second - 60 then
      redis.call('HDEL', key, all[i])
    else
      sum = sum + count
      seconds[#seconds + 1] = {at, count}
    end
  end
  table.sort(seconds, function(one, other) return one[1] < other[1] end)
  return sum, seconds
end
local function wait_ms(seconds, too_many)
  for _, pair in ipairs(seconds) do
    too_many = too_many - pair[2]
    if too_many <= 0 then return math.ceil((pair[1] + 61 - now) * 1000) end
  end
  return 61000
end
local requests, request_seconds, tokens, token_seconds, leases = 0, {}, 0, {}, 0
if requests_max > 0 then requests, request_seconds = counted(KEYS[1]) end
if tokens_max > 0 then tokens, token_seconds = counted(KEYS[2]) end
if requests_max > 0 and requests >= requests_max then
  return {'requests', requests, tokens, wait_ms(request_seconds, requests - requests_max + 1)}
end
if tokens_max > 0 and tokens >= tokens_max then
  return {'tokens', requests, tokens, wait_ms(token_seconds, tokens - tokens_max + 1)}
end
if leases_max > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  if redis.call('ZCARD', KEYS[3]) >= leases_max then return {'concurrency', requests, tokens, 1000} end
  redis.call('ZADD', KEYS[3], now + tonumber(ARGV[5]), ARGV[4])
  redis.call('EXPIRE', KEYS[3], math.ceil(2 * tonumber(ARGV[5])))
end
if requests_max > 0 then
  redis.call('HINCRBY', KEYS[1], second, 1)
  redis.call('EXPIRE', KEYS[1], 120)
end
return {'', requests + 1, tokens, 0}
"""
_COUNT_TOKENS = """
redis.call('HINCRBY', KEYS[1], redis.call('TIME')[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], 120)
"""
#: A lease that has run out is not begun again: its place may be another request's by now.
_RENEW = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[2]), ARGV[1])
redis.call('EXPIRE', KEYS[1], math.ceil(2 * tonumber(ARGV[2])))
"""

#: What there is too much of; empty: the request is admitted.
Beyond = Literal["", "requests", "tokens", "concurrency"]


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request may be answered, and what of the last minute's limits is used, by it too if it may."""

    beyond: Beyond
    requests: int
    tokens: int
    #: Seconds after which there is room again; 0 where there is.
    wait_s: float
    #: Names the request's lease.
    lease: tuple[UUID, str]


class RequestCounts:
    """Counts requests by user. While Redis is away nothing is counted and everything admitted."""

    def __init__(
        self, redis_url: str, *, lease_s: float = LEASE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        patience = {"socket_timeout": _PATIENCE_S, "socket_connect_timeout": _PATIENCE_S}
        self._redis = redis.asyncio.Redis.from_url(redis_url, **{**connection_options(), **patience})
        self._admit = self._redis.register_script(_ADMIT)
        self._count_tokens = self._redis.register_script(_COUNT_TOKENS)
        self._renew = self._redis.register_script(_RENEW)
        self._lease_s = lease_s
        self._clock = clock
        self._resting_until_s = float("-inf")
        self._leases: set[tuple[UUID, str]] = set()

    async def admit(self, user_id: UUID, limits: RequestLimits) -> Admission | None:
        """Counts a request, unless it is one too many; None when Redis can't be asked.

        An admitted one is `end`ed when its answer has been sent.
        """
        if self._clock() < self._resting_until_s:
            return None
        lease = user_id, uuid4().hex
        maxima = (limits.requests_per_minute, limits.tokens_per_minute, limits.concurrent_requests)
        args: list[float | str] = [*(limit or 0 for limit in maxima), lease[1], self._lease_s]
        try:
            beyond, requests, tokens, wait_ms = await self._admit(
                keys=[_key(user_id, "requests"), _key(user_id, "tokens"), _key(user_id, "leases")], args=args
            )
        except (redis.RedisError, OSError) as error:
            self._say_away(error)
            return None
        admission = Admission(beyond.decode(), int(requests), int(tokens), int(wait_ms) / 1000, lease)
        if not admission.beyond and limits.concurrent_requests:
            self._leases.add(lease)
        return admission

    async def end(self, admission: Admission, tokens: int) -> None:
        """The request is answered; `tokens` went through the model for it."""
        user_id, _ = lease = admission.lease
        held = lease in self._leases
        self._leases.discard(lease)
        try:
            if held:
                await self._redis.zrem(_key(user_id, "leases"), lease[1])
            if tokens:
                await self._count_tokens(keys=[_key(user_id, "tokens")], args=[tokens])
        except (redis.RedisError, OSError) as error:
            self._say_away(error)

    async def renew(self) -> None:
        """Renews the leases of all requests that this process answers; several times in the time of a lease."""
        try:
            for user_id, lease in list(self._leases):
                await self._renew(keys=[_key(user_id, "leases")], args=[lease, self._lease_s])
        except (redis.RedisError, OSError) as error:
            self._say_away(error)

    async def close(self) -> None:
        await self._redis.aclose()

    def _say_away(self, error: Exception) -> None:
        log.warning("Redis does not answer (%s): limits on requests are not enforced until it does.", error)
        self._resting_until_s = self._clock() + _REST_S


def _key(user_id: UUID, what: str) -> str:
    return f"eigenwerk:asked:{{{user_id}}}:{what}"
