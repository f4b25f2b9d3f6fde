"""A chat completion that comes in pieces, as OpenAI's servers send it: `data: {...}` lines, the last one `[DONE]`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from eigenwerk.errors import EigenwerkError
from eigenwerk.http.transport import Transport

_DONE = "[DONE]"


def pieces_of_chat(transport: Transport, body: Mapping[str, Any]) -> Iterator[str]:
    """The pieces of the text. Raises EigenwerkError when the model fails, or the connection breaks, in the middle."""
    headers = {"Accept": "text/event-stream"}
    with transport.stream("/v1/chat/completions", headers, method="POST", json=dict(body)) as response:
        for line in response.iter_lines():
            field, _, data = line.partition(":")
            if field != "data":
                continue
            if data.strip() == _DONE:
                return
            if piece := _piece(data):
                yield piece
    raise EigenwerkError("The answer broke off. Ask again.")


def _piece(data: str) -> str:
    try:
        document = json.loads(data)
        if "error" in document:
            raise EigenwerkError(str(document["error"]["message"]))
        choices = document["choices"]
        return str(choices[0]["delta"].get("content") or "") if choices else ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EigenwerkError("The answer is not one of a language model. Ask again.") from error
