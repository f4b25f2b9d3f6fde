"""Routes that OpenAI's clients ask: what is wrong with a request is 400 there, as at OpenAI's."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response

from api.authentication import GuardedRoute
from api.errors import KNOWN_ERRORS, ApiError, api_error


class OpenAIRoute(GuardedRoute):
    """Answers 400 where other routes answer 422; everything else of the refusal stays."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        wrong = {"model": self.refusal_model, "description": "something in the request is wrong"}
        options["responses"] = {400: wrong, **(options.get("responses") or {})}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except KNOWN_ERRORS as error:
                refusal = api_error(request, error)
                if refusal.status_code != 422:
                    raise
                raise ApiError(
                    400, refusal.detail, code=refusal.code, param=refusal.param, problems=refusal.problems
                ) from error

        return answered


def openai_router(tag: str = "inference") -> APIRouter:
    return APIRouter(route_class=OpenAIRoute, tags=[tag])
