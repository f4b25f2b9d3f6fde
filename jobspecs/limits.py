"""How much one user may ask of deployed models, with all tokens together. Rates are those of the last minute."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

#: What a limit may be at most: it is counted in integers that every part can write.
LIMIT_MAX = 2**31 - 1

Limit = Annotated[int, Field(ge=0, le=LIMIT_MAX)]


class RequestLimits(BaseModel):
    """0: no limit. None: another one's holds, the platform's for a user's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: Limit | None = None
    #: Read and written by the models, as far as their engines tell.
    tokens_per_minute: Limit | None = None
    #: Requests that are being answered at one moment.
    concurrent_requests: Limit | None = None

    def over(self, other: RequestLimits) -> RequestLimits:
        """These, and where there is none the other's."""
        return RequestLimits.model_validate({**other.model_dump(), **self.model_dump(exclude_none=True)})

    @property
    def any(self) -> bool:
        """Whether there is anything to count."""
        return any(self.model_dump().values())


#: No word of anybody's.
UNSAID = RequestLimits()
