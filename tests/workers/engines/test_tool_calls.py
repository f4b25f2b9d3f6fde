"""Tools: how templates write calls, and OpenAI's client calling them at a real, tiny model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
import pytest

from tests.workers.inference.stories import with_chat_template
from workers.engines.embedded.app import create_app
from workers.engines.embedded.generation.tool_calls import Call, CallReader, Notation
from workers.engines.embedded.tasks.registry import LOADERS
from workers.engines.interface import EngineOrder

KEY = "correct"
#: As Hermes' and Qwen's templates write tools and calls.
TEMPLATE = (
    "{{ bos_token }}{% for tool in tools or [] %}{{ tool | tojson }}\n{% endfor %}"
    "{% for message in messages %}{{ message.role }}: {{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>\n"
    "{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}\n</tool_call>{% endfor %}"
    "{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
HERMES = Notation("<tool_call>\n", "\n</tool_call>", "name", "arguments", False)
LLAMA = Notation("", "", "name", "parameters", False)
MISTRAL = Notation("[TOOL_CALLS] [", "]", "name", "arguments", False)
NAMES = frozenset({"walk", "swim"})
ASK: Any = [{"role": "user", "content": "Go."}]


def tool(name: str, **properties: Any) -> Any:
    parameters = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def named(name: str) -> Any:
    return {"type": "function", "function": {"name": name}}


TOOLS = [tool("walk", steps={"type": "integer", "minimum": 1, "maximum": 9}), tool("swim", to={"enum": ["sea"]})]

Chat = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = with_chat_template(tmp_path_factory.mktemp("tools"))
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    served = LOADERS["text-generation"](EngineOrder("alice/tools@1", "text-generation", folder, "d" * 64, 0, KEY))
    yield create_app("alice/tools@1", "d" * 64, served, KEY)
    served.close()


def chat(app: Any, **asked: Any) -> Any:
    """What OpenAI's client makes of an answer: the completion, or the list of its chunks."""

    @asynccontextmanager
    async def sdk() -> AsyncIterator[openai.AsyncOpenAI]:
        transport = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
        async with openai.AsyncOpenAI(
            base_url="http://engine/v1", api_key=KEY, max_retries=0, http_client=transport
        ) as client:
            yield client

    async def run() -> Any:
        async with sdk() as client:
            whole = {"model": "tools", "messages": ASK, "max_tokens": 80, "seed": 1, **asked}
            answer: Any = await client.chat.completions.create(**whole)
            return [chunk async for chunk in answer] if asked.get("stream") else answer

    return asyncio.run(run())


def test_a_call_that_must_be_made_is_one_of_the_functions_with_arguments_of_its_schema(app: Any) -> None:
    [choice] = chat(app, tools=TOOLS, tool_choice="required").choices
    [call] = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    arguments = json.loads(call.function.arguments)
    assert arguments == {"to": "sea"} if call.function.name == "swim" else 1 <= arguments["steps"] <= 9
    [call] = chat(app, tools=TOOLS, tool_choice=named("swim")).choices[0].message.tool_calls
    assert (len(call.id), call.id.isalnum()) == (9, True), "Mistral's templates take no other name of a call"
    assert (call.function.name, json.loads(call.function.arguments)) == ("swim", {"to": "sea"})


def test_a_call_is_streamed_in_the_chunks_that_openais_client_reads(app: Any) -> None:
    chunks = chat(app, tools=TOOLS, tool_choice=named("swim"), stream=True)
    called = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [(call.index, call.function.name) for call in called] == [(0, "swim")]
    assert json.loads(called[0].function.arguments) == {"to": "sea"}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ""
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_conversation_goes_on_after_a_call_and_text_stays_text(app: Any) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "swim", "arguments": '{"to": "sea"}'}}
    turns = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "wet"},
    ]
    for choice in ("auto", "none"):
        [found] = chat(app, messages=turns, tools=TOOLS, tool_choice=choice, max_tokens=10).choices
        assert (found.message.tool_calls, found.finish_reason in ("length", "stop")) == (None, True)
        assert isinstance(found.message.content, str)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "fly"}}},
            "tool_choice.function.name",
        ),
        ({"tools": TOOLS, "response_format": {"type": "json_object"}}, "tools"),
        ({"tools": [tool("walk", a={"type": "strin"})], "tool_choice": "required"}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].function.name"),
    ],
)
def test_calls_that_can_not_be_made_are_refused_with_the_field(app: Any, asked: Any, field: str) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        chat(app, **asked)
    assert refused.value.response.json()["param"] == field


WALK = '{"name": "walk", "arguments": {"steps": 3}}'
WALKS = Call("walk", '{"steps": 3}')


@pytest.mark.parametrize(
    ("notation", "text", "shown", "calls"),
    [
        (HERMES, f"I go.\n<tool_call>\n{WALK}\n</tool_call>", "I go.\n", [WALKS]),
        (
            HERMES,
            f"<tool_call>{WALK}</tool_call>\n<tool_call>{WALK}</tool_call>",
            "",
            [WALKS] * 2,
        ),
        (MISTRAL, f'[TOOL_CALLS] [{WALK[:-1]}, "id": "abcdefghi"}}, {WALK}]', "", [WALKS] * 2),
        (MISTRAL, "[TOOL", "[TOOL", []),
        (HERMES, "a < b <tool", "a < b <tool", []),
        (HERMES, "<tool_call>\nnonsense", "<tool_call>\nnonsense", []),
        (HERMES, '<tool_call>{"name": "fly", "arguments": {}}', '<tool_call>{"name": "fly", "arguments": {}}', []),
        (LLAMA, '{"name": "swim", "parameters": {"to": "sea"}}', "", [Call("swim", '{"to": "sea"}')]),
        (LLAMA, '{"a": 1}', '{"a": 1}', []),
        (LLAMA, "Well {", "Well {", []),
    ],
)
def test_calls_are_told_from_text_wherever_the_text_is_cut(
    notation: Notation, text: str, shown: str, calls: list[Call]
) -> None:
    for size in (1, 3, len(text)):
        reader = CallReader(notation, NAMES)
        seen = "".join(reader.show(text[start : start + size]) for start in range(0, len(text), size))
        rest, found = reader.finish()
        assert (seen + rest, found) == (shown, calls)
