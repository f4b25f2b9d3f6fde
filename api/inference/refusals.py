"""What an engine, or a deployment, refuses, in words for people."""

from __future__ import annotations

import logging
from typing import Any

import httpx

from api.errors import ApiError, unavailable
from jobspecs.engines import EngineKind
from jobspecs.tasks import SERVED_TASKS, ServedTask

log = logging.getLogger(__name__)

RETRY_AFTER_S = 2
#: Engines of others refuse requests with these; 400 is OpenAI's own word for it, 422 that of ours.
_WRONG_REQUESTS = frozenset({400, 422})
#: What engines say when a text is longer than the model can read; OpenAI's clients know the code.
_NO_WORDS = "The model refuses this request."
_CONTEXT_LENGTH = "context_length_exceeded"
#: And when a request names an adapter that they have not.
_NOT_FOUND = "not_found"


def wrong_task(name: str, task: str, wanted: tuple[ServedTask, ...]) -> ApiError:
    served = SERVED_TASKS.get(task)
    what = f"{served.noun} ({task}); ask it at {served.route}" if served else f"a model for {task}"
    return ApiError(
        422,
        f"The deployment {name} is {what}. This route needs {' or '.join(task.noun for task in wanted)}.",
        code="wrong_task",
        param="model",
    )


def refusal(name: str, kind: EngineKind, response: httpx.Response) -> ApiError:
    """What the engine of the deployment `name` has answered instead of an answer."""
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
