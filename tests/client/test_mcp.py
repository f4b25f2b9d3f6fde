"""What tools answer: bounded, with what models said, and refusals as the platform has worded them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from mcp import Client as ToolClient
from mcp.server.mcpserver import Context

from eigenwerk.client import Client
from eigenwerk.mcp_server.answers import ANSWER_CHARS_MAX, answered
from eigenwerk.mcp_server.server import make_server
from tests.client.documents import JOB_ID, job
from tests.client.stub import StubPlatform


def called(platform: StubPlatform, name: str, **arguments: Any) -> Any:
    @contextmanager
    def clients(_: Context[Any, Any]) -> Iterator[Client]:
        with Client(platform.url, "ew_test") as client:
            yield client

    async def talk() -> Any:
        async with ToolClient(make_server(clients, writes=True)) as client:
            return await client.call_tool(name, arguments)

    return asyncio.run(talk())


def test_deployed_models_are_asked(platform: StubPlatform) -> None:
    message = {"role": "assistant", "content": "Bonn, until 1990."}
    vectors = [{"index": 0, "embedding": [1.0, 0.0]}, {"index": 1, "embedding": [0.6, 0.8]}]
    label = {"label": "good", "score": 0.9}
    platform.answers = {
        "POST /v1/chat/completions": (
            200,
            {"model": "chat", "choices": [{"message": message, "finish_reason": "stop"}], "usage": {"total_tokens": 9}},
        ),
        "POST /v1/embeddings": (200, {"model": "e", "version": 1, "data": vectors}),
        "POST /v1/classify": (200, {"model": "c", "version": 1, "results": [[label]]}),
        "POST /v1/rerank": (200, {"model": "r", "version": 1, "results": [{"index": 0, "relevance_score": 0.5}]}),
    }
    chat = called(platform, "chat", deployment="chat", prompt="Which capital?", system="Be brief.")
    assert chat.structured_content["answer"] == "Bonn, until 1990."
    sent = json.loads(platform.requests[-1].body)
    assert [one["role"] for one in sent["messages"]] == ["system", "user"] and sent["max_tokens"] == 512
    embedded = called(platform, "embed", deployment="e", texts=["a", "b"], vectors=True).structured_content
    assert embedded["similarities"] == [[1.0, 0.6], [0.6, 1.0]] and embedded["vectors"][0] == "1.0000 0.0000"
    classes = called(platform, "classify", deployment="c", texts=["a"]).structured_content
    assert classes["results"] == [[label]]
    assert called(platform, "rerank", deployment="r", query="q", documents=["a"]).structured_content["results"]


def test_an_answer_is_as_long_as_somebody_can_read(platform: StubPlatform) -> None:
    lines = [{"at": "2026-01-01T00:00:00Z", "level": "info", "message": "x" * 100_000} for _ in range(300)]
    platform.answers = {
        f"GET /v1/jobs/{JOB_ID}": (200, job()),
        f"GET /v1/jobs/{JOB_ID}/logs": (200, {"data": lines, "cursor": "1.1-1", "has_more": False}),
    }
    shown = called(platform, "show", work=JOB_ID)
    assert len(shown.content[0].text) <= 2 * ANSWER_CHARS_MAX
    assert len(json.dumps(shown.structured_content)) <= ANSWER_CHARS_MAX
    assert "more characters" in shown.structured_content["log"][0]


@pytest.mark.parametrize(
    "value",
    [
        {"text": "x" * 1_000_000},
        {"rows": [{f"column {n}": "y" * 500 for n in range(300)} for _ in range(300)]},
        {"deep": [[["z" * 5000] * 200] * 200]},
        {f"key {n}" * 3000: n for n in range(50)},
    ],
)
def test_whatever_it_is_it_fits(value: dict[str, Any]) -> None:
    assert 0 < len(json.dumps(answered(value), ensure_ascii=False)) <= ANSWER_CHARS_MAX


def test_a_refusal_is_an_error_with_the_platforms_words(platform: StubPlatform) -> None:
    problem = {"field": "steps.train.label", "message": "there is no column mood.", "remedy": "One of: quality."}
    error = {"message": "The pipeline can't be used.", "code": "invalid_input", "problems": [problem]}
    platform.answers = {"POST /v1/pipelines": (422, {"error": error})}
    refused = called(platform, "submit", spec={"kind": "pipeline"})
    assert refused.is_error
    for words in (error["message"], "field steps.train.label: there is no column mood. One of: quality."):
        assert words in refused.content[0].text
