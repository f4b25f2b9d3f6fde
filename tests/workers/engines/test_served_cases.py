"""Requests that people of other servers met trouble with, as the folders of the cases have them.

`logprobs`, `embed-truncates-silently`: their READMEs hold the requests and what is right. `ignored-fields` is tried in
`test_language_model_routes`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.weights import case_path
from tests.workers.inference.models import BUILDERS
from tests.workers.inference.stories import with_chat_template
from workers.engines.embedded.app import create_app
from workers.engines.embedded.tasks.registry import LOADERS
from workers.engines.interface import EngineOrder

Ask = Callable[..., httpx.Response]
KEY = "key"


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ask]]:
    """Task -> what asks its engine: a path and the fields of a body."""
    root = tmp_path_factory.mktemp("served")
    BUILDERS["sentence-similarity"](root / "embedder")
    (root / "stories").mkdir()
    folders = {"text-generation": with_chat_template(root / "stories"), "sentence-similarity": root / "embedder"}
    with ExitStack() as stack:
        asks = {}
        for task, folder in folders.items():
            served = LOADERS[task](EngineOrder(f"alice/{task}@1", task, folder, "d" * 64, 0, KEY))
            stack.callback(served.close)
            asks[task] = _asking(create_app(f"alice/{task}@1", "d" * 64, served, KEY))
        yield asks


def _asking(app: Any) -> Ask:
    def ask(path: str, **body: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            headers = {"Authorization": f"Bearer {KEY}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://engine", headers=headers) as client:
                return await client.post(path, json=body)

        return asyncio.run(run())

    return ask


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": "Once upon a time there was a", "max_tokens": 6, "temperature": 0, "logprobs": 20},
        {"prompt": "Once upon a time number 53", "max_tokens": 3, "temperature": 1, "seed": 53, "logprobs": 20},
        {"prompt": "Once upon a time é😀", "max_tokens": 6, "temperature": 1, "seed": 3, "logprobs": 20, "echo": True},
    ],
    ids=["A", "B", "echo"],
)
def test_log_probabilities_belong_to_the_tokens_of_the_text(engines: dict[str, Ask], asked: dict[str, Any]) -> None:
    case_path("logprobs")
    ask = engines["text-generation"]
    [choice] = ask("/v1/completions", **asked).json()["choices"]
    text, found = choice["text"], choice["logprobs"]
    assert "".join(found["tokens"]) == text
    for token, own, top, offset in zip(
        *(found[name] for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")), strict=True
    ):
        assert text[offset:].startswith(token)
        if own is not None:
            assert top[token] == own
            assert len(top) in (20, 21)
    streamed = ask("/v1/completions", **asked, stream=True).text.splitlines()
    chunks = [json.loads(line[6:])["choices"][0] for line in streamed if line and line != "data: [DONE]"]
    assert [place for chunk in chunks for place in chunk["logprobs"]["text_offset"]] == found["text_offset"]


def test_the_bytes_of_a_chats_tokens_are_the_texts(engines: dict[str, Ask]) -> None:
    case_path("logprobs")
    asked = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 6, "temperature": 0, "logprobs": True}
    [choice] = engines["text-generation"]("/v1/chat/completions", **asked).json()["choices"]
    tokens = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == choice["message"]["content"]
    assert all(bytes(token["bytes"]).decode() == token["token"] for token in tokens)


def test_a_text_that_is_too_long_is_cut_with_a_sign_or_refused(engines: dict[str, Ask]) -> None:
    case_path("embed-truncates-silently")
    ask, long = engines["sentence-similarity"], "the sea " * 5000
    assert ask("/embed", inputs="the sea", truncate=False).status_code == 200
    for asked in ({}, {"truncate": False}):
        refused = ask("/embed", inputs=long, **asked)
        assert refused.status_code in (413, 422), asked
    assert ask("/embed", inputs=long, truncate=True).headers["x-truncated"] == "1"
