"""What LlamaIndex's models of OpenAI's dialect ask of a running platform."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

from tests.conformance.steps import CHAT, DIMENSIONS, EMBEDDER, TOKEN, TOOLED, URL, holds, run, same, step

ASK = [ChatMessage(role="user", content="What is the capital of France?")]


def model(name: str = CHAT, **more: Any) -> Any:
    said = {"max_tokens": 40, "temperature": 0, "max_retries": 0, "is_chat_model": True, **more}
    return OpenAILike(model=name, api_base=f"{URL}/v1", api_key=TOKEN, context_window=2048, **said)


@step("OpenAILike.chat")
def a_chat_is_answered() -> None:
    answer = model().chat(ASK)
    holds("Paris" in answer.message.content, "the word Paris", answer.message.content)


@step("OpenAILike.stream_chat")
def a_streamed_chat_is_the_whole_one() -> None:
    last = list(model().stream_chat(ASK))[-1]
    same(last.message.content, model().chat(ASK).message.content)


@step("OpenAILike.complete, stream_complete")
def a_text_is_continued() -> None:
    plain = model(is_chat_model=False, max_tokens=6)
    text = plain.complete("The capital of France is").text
    holds("Paris" in text, "the word Paris", text)
    same("".join(part.delta for part in plain.stream_complete("The capital of France is")), text)


@step("OpenAILike.chat_with_tools")
def a_tool_is_called() -> None:
    def weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    caller = model(TOOLED, is_function_calling_model=True, max_tokens=100)
    answer = caller.chat_with_tools([FunctionTool.from_defaults(weather)], chat_history=ASK, tool_required=True)
    calls = caller.get_tool_calls_from_response(answer, error_on_no_tool_call=False)
    same([call.tool_name for call in calls], ["weather"])


@step("OpenAILikeEmbedding")
def texts_and_queries_are_embedded() -> None:
    embedder: Any = OpenAILikeEmbedding(model_name=EMBEDDER, api_base=f"{URL}/v1", api_key=TOKEN, max_retries=0)
    vectors = embedder.get_text_embedding_batch(["a cat", "a dog"])
    same([len(vector) for vector in vectors], [DIMENSIONS] * 2)
    same(len(embedder.get_query_embedding("a cat")), DIMENSIONS)


if __name__ == "__main__":
    run()
