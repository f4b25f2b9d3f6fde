"""OpenAI's /v1/responses: OpenAI's client asks a real API before a real language model's engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

import openai
import pytest

from tests.api.conftest import Api
from tests.api.inference.test_engines import ready, register
from tests.loopback import serving

QUESTION = "What is the weather?"


class Engine(BaseHTTPRequestHandler):
    """Answers chats as it is told, and keeps what it was asked."""

    asked: ClassVar[list[dict[str, Any]]] = []
    answer: tuple[int, dict[str, Any]] = (200, {})
    chunks: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, document = type(self).answer
        if self.path == "/apply-template":
            document = {"prompt": str(body["tools"])}
        else:
            type(self).asked.append(body)
        content, kind = json.dumps(document).encode(), "application/json"
        if body.get("stream") and status == 200:
            events = [f"data: {json.dumps(chunk)}\n\n" for chunk in type(self).chunks]
            content, kind = "".join([*events, "data: [DONE]\n\n"]).encode(), "text/event-stream"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def sdk(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(Engine, "asked", [])
    register(api)
    assert api.client.put("/v1/deployments/sea").status_code == 202
    token = str(api.client.headers["Authorization"]).removeprefix("Bearer ")
    with serving(Engine) as url, openai.OpenAI(base_url=f"{api.url}/v1", api_key=token, max_retries=0) as client:
        ready(api, url)
        yield client


def says(text: str | None, finish: str = "stop", **more: Any) -> tuple[int, dict[str, Any]]:
    usage = {"prompt_tokens": 4, "completion_tokens": 2}
    return 200, {"choices": [{"message": {"content": text, **more}, "finish_reason": finish}], "usage": usage}


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def call(name: str | None, arguments: str, index: int = 0) -> dict[str, Any]:
    named = {"id": f"call_{index}", "type": "function"} if name else {}
    function = {"name": name, "arguments": arguments} if name else {"arguments": arguments}
    return {"tool_calls": [{"index": index, **named, "function": function}]}


def respond(sdk: Any, **more: Any) -> Any:
    return sdk.responses.create(**{"model": "sea", "input": QUESTION, **more})


TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}


def test_a_response_is_a_chats_answer(sdk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "answer", says("Rain."))
    answer = respond(sdk, instructions="Be brief.", max_output_tokens=9, temperature=0)
    assert (answer.output_text, answer.status, answer.store) == ("Rain.", "completed", False)
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (4, 2, 6)
    asked = Engine.asked.pop()
    assert asked["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    assert (asked["max_tokens"], asked["temperature"]) == (9, 0)


def test_an_answer_that_was_cut_says_why(sdk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "answer", says("Ra", "length"))
    answer = respond(sdk)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.output[0].status == "incomplete"


def test_tools_and_what_they_gave_are_part_of_the_conversation(sdk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    function = {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": '{"at": "sea"}'}}
    monkeypatch.setattr(Engine, "answer", says(None, "tool_calls", tool_calls=[function]))
    answer = respond(sdk, tools=[TOOL], tool_choice={"type": "function", "name": "weather"})
    [called] = answer.output
    assert (called.type, called.call_id, called.arguments) == ("function_call", "call_0", '{"at": "sea"}')
    asked = Engine.asked.pop()
    assert asked["tools"][0]["function"]["name"] == "weather"
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "weather"}}

    monkeypatch.setattr(Engine, "answer", says("Rain."))
    result = {"type": "function_call_output", "call_id": "call_0", "output": "rain"}
    respond(sdk, input=[{"role": "user", "content": QUESTION}, called, result], tools=[TOOL])
    assert Engine.asked.pop()["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [function]},
        {"role": "tool", "tool_call_id": "call_0", "content": "rain"},
    ]


def test_a_form_is_asked_of_the_chat(sdk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "answer", says("{}"))
    respond(sdk, text={"format": {"type": "json_schema", "name": "it", "schema": {"type": "object"}, "strict": True}})
    form = {"name": "it", "schema": {"type": "object"}, "strict": True}
    assert Engine.asked.pop()["response_format"] == {"type": "json_schema", "json_schema": form}


def test_a_stream_has_the_events_that_openais_client_reads(sdk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 3}}
    chunks = [
        chunk(content="It "),
        chunk(content="rains."),
        chunk(**call("weather", '{"at"')),
        chunk(**call(None, ": 1}")),
    ]
    monkeypatch.setattr(Engine, "chunks", [*chunks, chunk("tool_calls"), usage])
    with sdk.responses.stream(model="sea", input=QUESTION, tools=[TOOL]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(15))
    assert (final.output_text, final.output[1].arguments) == ("It rains.", '{"at": 1}')
    assert final.usage.output_tokens == 3
    assert Engine.asked.pop()["stream_options"] == {"include_usage": True}


def test_a_stream_that_breaks_off_ends_with_a_failed_response(sdk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "chunks", [chunk(content="It"), {"error": {"message": "The engine died."}}])
    last = list(respond(sdk, stream=True))[-1]
    assert (last.type, last.response.status, last.response.error.message) == (
        "response.failed",
        "failed",
        "The engine died.",
    )


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": ""}, "input"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"text": {"format": {"type": "json_schema", "name": "it"}}}, "text.format.schema"),
    ],
)
def test_what_is_not_kept_or_not_done_is_refused_with_400(sdk: Any, said: dict[str, Any], field: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        respond(sdk, **said)
    assert refused.value.param == field
    assert Engine.asked == []


def test_the_chats_refusals_name_the_fields_of_responses(sdk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"message": "messages[1].content: it is too long", "param": "messages[1].content", "type": "x"}
    monkeypatch.setattr(Engine, "answer", (400, {"error": said}))
    with pytest.raises(openai.BadRequestError, match="it is too long") as refused:
        respond(sdk, stream=True)
    assert refused.value.param == "input"
    with pytest.raises(openai.NotFoundError):
        respond(sdk, model="absent")
