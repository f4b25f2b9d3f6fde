"""JSON bodies of requests: at most 1 MB, read strictly."""

from __future__ import annotations

from typing import Any

import anyio
from fastapi import Request

from api.errors import ApiError
from jobspecs.strict_json import UnacceptableJson, parse_json

BODY_BYTES_MAX = 1_000_000
#: Smaller bodies are read at once, in 2 ms at most; a whole megabyte of brackets takes 0.3 s, in a thread.
_QUICK_BYTES = 10_000
_PARSING = anyio.CapacityLimiter(2)


class StrictRequest(Request):
    """A request whose body is bounded while it is received, and whose JSON is strict. Raises ApiError 400 and 413."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            received = bytearray()
            async for chunk in self.stream():
                received += chunk
                if len(received) > BODY_BYTES_MAX:
                    raise ApiError(413, f"The body is larger than {BODY_BYTES_MAX:,} bytes.")
            self._body = bytes(received)
        return self._body

    async def json(self) -> Any:
        body = await self.body()
        try:
            if len(body) <= _QUICK_BYTES:
                return parse_json(body)
            return await anyio.to_thread.run_sync(parse_json, body, limiter=_PARSING)
        except UnacceptableJson as error:
            raise ApiError(400, f"The body is not acceptable JSON: {error}.", code="invalid_json") from error
