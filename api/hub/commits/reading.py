"""Foreign files that are read for a push, whether its client waits or has gone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from fastapi import Request

from api.errors import unavailable
from api.parts import Parts
from corpus.confinement.confinement import ConfinementUnavailable, Stopped
from corpus.confinement.process import Limits, Overran
from jobspecs.problems import InvalidInput, Problem
from jobspecs.rights import Principal

Result = TypeVar("Result")


async def reading(
    parts: Parts,
    request: Request | None,
    user: Principal,
    file: str,
    remedy: str,
    work: Callable[[Callable[[], bool]], Result],
    *,
    large: bool = False,
    limits: Limits | None = None,
) -> Result:
    """As `Readings.read`; without a request nobody can leave. Raises InvalidInput, ApiError."""
    if request is not None:
        return await parts.readings.read(request, user.user_id, file, remedy, work, large=large, limits=limits)
    try:
        return await parts.readings.run(user.user_id, partial(work, parts.stopping.is_set), large=large)
    except Overran as error:
        raise InvalidInput([Problem(file=file, message=f"reading it takes {error}.", remedy=remedy)]) from error
    except (Stopped, ConfinementUnavailable) as error:
        raise unavailable("The file can't be read now.") from error
