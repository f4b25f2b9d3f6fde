"""What the stand-ins write, and OpenAI's shapes around it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

STORY = "Once upon a time, far away by the sea, there was a small engine. " * 10
CONTEXT = 256
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


class Refused(Exception):
    """A status and a document."""

    def __init__(self, status: int, document: Any) -> None:
        super().__init__(document)
        self.status, self.document = status, document


@dataclass
class Counts:
    """What /metrics tells."""

    prompt: int = 0
    generated: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, prompt: int, generated: int) -> None:
        with self.lock:
            self.prompt, self.generated = self.prompt + prompt, self.generated + generated


def prompt_of(path: str, body: Mapping[str, Any]) -> str:
    if path == COMPLETIONS:
        return str(body["prompt"])
    return "".join(str(message["content"]) for message in body["messages"])


def written(body: Mapping[str, Any], room: int) -> tuple[str, str]:
    """The text and why it ended."""
    most = min(room, int(body.get("max_tokens") or room))
    text = STORY[:most]
    places = [text.find(stop) for stop in body.get("stop") or () if stop in text]
    return (text[: min(places)], "stop") if places else (text, "length")


def choice_of(path: str, text: str, finish: str | None, *, streamed: bool = False) -> dict[str, Any]:
    if path == COMPLETIONS:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    message = {"role": "assistant", "content": text}
    return {"index": 0, "delta" if streamed else "message": message, "finish_reason": finish}


class Handler(BaseHTTPRequestHandler):
    """Reads and writes JSON and events; what is asked is for the sub-class."""

    protocol_version = "HTTP/1.1"

    def body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")

    def send(self, status: int, document: Any, content_type: str = "application/json") -> None:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def answer(self, path: str, body: Mapping[str, Any], model: str, counts: Counts) -> None:
        """A completion or chat, streamed or not."""
        prompt = prompt_of(path, body)
        text, finish = written(body, CONTEXT - len(prompt))
        counts.add(len(prompt), len(text))
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(text)}
        head = {"id": "x", "created": 0, "model": model}
        if not body.get("stream"):
            self.send(200, {**head, "object": "x", "choices": [choice_of(path, text, finish)], "usage": usage})
            return
        chunks = [*((char, None) for char in text), ("", finish)]
        events = ({**head, "choices": [choice_of(path, piece, end, streamed=True)]} for piece, end in chunks)
        self.events([*events])

    def events(self, documents: Iterator[Any] | list[Any]) -> None:
        content = b"".join(b"data: " + json.dumps(document).encode() + b"\n\n" for document in documents)
        self.send(200, content + b"data: [DONE]\n\n", "text/event-stream")

    def log_message(self, *_: Any) -> None:
        """Quiet."""
