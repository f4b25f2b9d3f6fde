"""What LangChain's models of OpenAI's dialect ask of a running platform."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

from tests.conformance.steps import CHAT, DIMENSIONS, EMBEDDER, TOKEN, TOOLED, URL, holds, near, run, same, step

ASK = [HumanMessage("What is the capital of France?")]


class Capital(BaseModel):
    """A city."""

    city: str = Field(max_length=20)


@tool  # type: ignore[untyped-decorator]
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def chat(model: str = CHAT, **more: Any) -> Any:
    said = {"max_tokens": 40, "temperature": 0, "max_retries": 0, **more}
    return ChatOpenAI(model=model, base_url=f"{URL}/v1", api_key=TOKEN, **said)


@step("ChatOpenAI.invoke")
def a_chat_is_answered() -> None:
    answer = chat().invoke([SystemMessage("Answer in one line."), *ASK])
    holds("Paris" in answer.content, "the word Paris", answer.content)
    holds(answer.usage_metadata["output_tokens"], "tokens", answer.usage_metadata)


@step("ChatOpenAI.stream")
def a_streamed_chat_is_the_whole_one() -> None:
    chunks = list(chat(stream_usage=True).stream(ASK))
    same("".join(chunk.content for chunk in chunks), chat().invoke(ASK).content)
    holds(any(chunk.usage_metadata for chunk in chunks), "usage in a chunk", chunks[-1])


@step("ChatOpenAI.with_structured_output")
def an_answer_is_of_its_schema() -> None:
    found = chat().with_structured_output(Capital, method="json_schema").invoke(ASK)
    holds(isinstance(found, Capital), "a Capital", found)


@step("ChatOpenAI.bind_tools")
def a_tool_is_called() -> None:
    answer = chat(TOOLED, max_tokens=100).bind_tools([weather], tool_choice="weather").invoke(ASK)
    same([call["name"] for call in answer.tool_calls], ["weather"])


@step("ChatOpenAI.batch, with logprobs")
def several_chats_are_answered() -> None:
    answers = chat(logprobs=True, max_tokens=4).batch([ASK, ASK])
    same([len(answer.response_metadata["logprobs"]["content"]) for answer in answers], [4, 4])


@step("ChatOpenAI(use_responses_api=True).invoke")
def a_response_is_given() -> None:
    answer = chat(use_responses_api=True).invoke(ASK)
    holds("Paris" in answer.text, "the word Paris", answer.content)


@step("ChatOpenAI(use_responses_api=True).stream")
def a_streamed_response_is_the_whole_one() -> None:
    chunks = list(chat(use_responses_api=True).stream(ASK))
    same("".join(chunk.text for chunk in chunks), chat(use_responses_api=True).invoke(ASK).text)


@step("OpenAI.invoke")
def a_text_is_continued() -> None:
    said: dict[str, Any] = {"max_tokens": 6, "temperature": 0, "max_retries": 0}
    model: Any = OpenAI(model=CHAT, base_url=f"{URL}/v1", api_key=TOKEN, **said)
    text = model.invoke("The capital of France is")
    holds("Paris" in text, "the word Paris", text)
    same("".join(model.stream("The capital of France is")), text)


@step("OpenAIEmbeddings(check_embedding_ctx_length=False)")
def documents_and_queries_are_embedded() -> None:
    said: dict[str, Any] = {"check_embedding_ctx_length": False, "max_retries": 0}
    model: Any = OpenAIEmbeddings(model=EMBEDDER, base_url=f"{URL}/v1", api_key=TOKEN, **said)
    documents = model.embed_documents(["a cat", "a dog"])
    same([len(vector) for vector in documents], [DIMENSIONS] * 2)
    near(sum(a * b for a, b in zip(documents[0], model.embed_query("a cat"), strict=True)), 1)


if __name__ == "__main__":
    run()
