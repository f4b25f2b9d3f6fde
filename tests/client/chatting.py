"""A language model of canned words, as the platform's API gives its answers."""

from __future__ import annotations

import json
from typing import Any

from tests.client.stub import Answer, Request

WORDS = ("Good ", "morning,\n", "\x1b[31mAda.")


def chat_completion(request: Request) -> Answer:
    """Says WORDS, streamed when that is asked for."""
    if not json.loads(request.body).get("stream"):
        message = {"role": "assistant", "content": "".join(WORDS)}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return 200, {"model": "smollm2", "choices": choices, "usage": {"completion_tokens": 3}}
    return 200, stream_of(*({"choices": [{"index": 0, "delta": {"content": word}}]} for word in WORDS), "[DONE]")


def stream_of(*events: Any) -> bytes:
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"data: {line}\n\n" for line in lines).encode()
