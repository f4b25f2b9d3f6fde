"""Files of requests, as a batch works them off: a JSON object per line, checked line by line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobspecs.batches import CUSTOM_ID_CHARS_MAX, ENDPOINTS, LINE_BYTES_MAX, MODEL_CHARS_MAX, REQUESTS_MAX
from jobspecs.problems import PROBLEMS_MAX, InvalidInput, Problem
from jobspecs.strict_json import UnacceptableJson, parse_json

_FIELDS = ("custom_id", "method", "url", "body")
_EXAMPLE = (
    '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "…", "messages": […]}}'
)


@dataclass(frozen=True)
class BatchRequest:
    """One line. `line` counts from 1."""

    line: int
    custom_id: str
    url: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Requests:
    """What a file asks for. `models`: each that is named, with the first line that does."""

    count: int
    endpoint: str
    models: dict[str, int]


def check_requests(path: Path, file_name: str, endpoint: str | None = None) -> dict[str, Any]:
    """`Requests` as a document. `endpoint`: the route that all of them must name; None: the first one's.

    Raises InvalidInput with the lines that are wrong.
    """
    problems: list[Problem] = []
    models: dict[str, int] = {}
    lines_by_id: dict[str, int] = {}
    count = 0
    for number, line in _lines(path):
        count += 1
        request = _read(line, number, file_name, problems)
        if len(problems) >= PROBLEMS_MAX:
            break
        if request is None:
            continue
        endpoint = endpoint or request.url
        if request.url != endpoint:
            problems.append(_problem(number, file_name, "url", f"it is {request.url}, and others are {endpoint}."))
        if (earlier := lines_by_id.setdefault(request.custom_id, number)) != number:
            message = f"{request.custom_id[:100]!r} is the custom_id of line {earlier} already."
            problems.append(_problem(number, file_name, "custom_id", message))
        models.setdefault(request.body["model"], number)
    if count > REQUESTS_MAX:
        message = f"it has more than {REQUESTS_MAX:,} requests."
        problems.append(Problem(file=file_name, message=message, remedy="Send them in several batches."))
    if not problems and endpoint is None:
        problems.append(Problem(file=file_name, message="it holds no request.", remedy=f"Each line is one: {_EXAMPLE}"))
    if problems:
        raise InvalidInput(problems[:PROBLEMS_MAX])
    return asdict(Requests(count, endpoint or "", models))


def requests_of(path: Path) -> Iterator[BatchRequest]:
    """The requests of a file that was checked."""
    for number, line in _lines(path):
        document = parse_json(line)
        yield BatchRequest(number, document["custom_id"], document["url"], document["body"])


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """At most REQUESTS_MAX + 1, each cut behind what is allowed."""
    with path.open("rb") as file:
        for number in range(1, REQUESTS_MAX + 2):
            line = file.readline(LINE_BYTES_MAX + 2)
            if not line:
                return
            yield number, line


def _read(line: bytes, number: int, file_name: str, problems: list[Problem]) -> BatchRequest | None:
    """None where it can't be read; `problems` then say why."""
    if len(line) > LINE_BYTES_MAX + 1:
        message = f"it is longer than {LINE_BYTES_MAX:,} bytes."
        # What follows would be read as lines of their own.
        problems.extend([_problem(number, file_name, None, message)] * (PROBLEMS_MAX - len(problems)))
        return None
    try:
        document = parse_json(line)
    except UnacceptableJson as error:
        problems.append(_problem(number, file_name, None, f"it is not JSON as we take it: {error}."))
        return None
    wrong = _wrong(document)
    if wrong is not None:
        problems.append(_problem(number, file_name, *wrong))
        return None
    return BatchRequest(number, document["custom_id"], document["url"], document["body"])


def _wrong(document: Any) -> tuple[str | None, str] | None:
    """The field, and what is wrong with it."""
    if not isinstance(document, dict):
        return None, f"it is no object with the fields {', '.join(_FIELDS)}."
    if unknown := sorted(document.keys() - set(_FIELDS)):
        return unknown[0][:100], f"unknown field; there are: {', '.join(_FIELDS)}."
    custom_id = document.get("custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= CUSTOM_ID_CHARS_MAX:
        return "custom_id", f"it must be a text of 1 to {CUSTOM_ID_CHARS_MAX} characters."
    if document.get("method") != "POST":
        return "method", "it must be POST."
    if document.get("url") not in ENDPOINTS:
        return "url", f"it must be one of {', '.join(ENDPOINTS)}."
    body = document.get("body")
    if not isinstance(body, dict):
        return "body", "it must be the request's object."
    if not isinstance(body.get("model"), str) or not body["model"]:
        return "body.model", "it must name a deployment."
    if len(body["model"]) > MODEL_CHARS_MAX:
        return "body.model", f"it is longer than {MODEL_CHARS_MAX} characters."
    if body.get("stream"):
        return "body.stream", "answers of a batch come whole; leave it out."
    return None


def _problem(number: int, file_name: str, field: str | None, message: str) -> Problem:
    return Problem(file=file_name, row=number, field=field, message=f"line {number}: {message}")
