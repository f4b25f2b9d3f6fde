"""What OpenAI's SDK asks of a running platform."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai

from tests.conformance.steps import (
    CHAT,
    DIMENSIONS,
    EMBEDDER,
    GGUF,
    OWNER,
    TOKEN,
    TOOLED,
    URL,
    holds,
    near,
    refused,
    run,
    same,
    step,
)

CLIENT = openai.OpenAI(base_url=f"{URL}/v1", api_key=TOKEN, max_retries=0)
#: Fields that SDKs don't type, or that are wrong on purpose.
ANY: Any = CLIENT
#: The embedded engine answers 16 chats at once, and lets 128 wait.
MORE_THAN_WAIT = 160
ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
PERSON: Any = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": WEATHER}}


def chat(**more: Any) -> Any:
    return ANY.chat.completions.create(**{"model": CHAT, "messages": ASK, "max_tokens": 12, "temperature": 0, **more})


def complete(**more: Any) -> Any:
    said = {"model": CHAT, "prompt": "The capital of France is", "max_tokens": 6, "temperature": 0, **more}
    return ANY.completions.create(**said)


@step("chat.completions.create")
def a_chat_is_answered() -> None:
    answer = chat()
    holds("Paris" in answer.choices[0].message.content, "the word Paris", answer.choices[0].message.content)
    same(answer.object, "chat.completion")
    same(answer.choices[0].message.role, "assistant")
    same(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
    holds(answer.system_fingerprint, "a fingerprint", answer.system_fingerprint)


@step("chat.completions.create of a GGUF")
def a_chat_of_a_gguf_is_answered() -> None:
    answer = chat(model=GGUF)
    holds(answer.choices[0].message.content, "a text", answer.choices[0].message.content)
    holds(answer.usage.completion_tokens, "tokens", answer.usage)


@step("chat.completions.create(stream=True, stream_options)")
def a_streamed_chat_is_the_whole_one() -> None:
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    same(text, chat().choices[0].message.content)
    same(chunks[-1].choices, [])
    same(chunks[-1].usage.completion_tokens, chat().usage.completion_tokens)


@step("chat.completions.create(stream=True) of a GGUF")
def a_streamed_chat_of_a_gguf_has_its_usage() -> None:
    chunks = list(chat(model=GGUF, stream=True, stream_options={"include_usage": True}))
    holds(chunks[-1].usage, "usage in the last chunk", chunks[-1])


@step("chat.completions.create(stop)")
def an_answer_ends_before_its_stop_string() -> None:
    whole = chat().choices[0].message.content
    stopped = chat(stop=[" capital"])
    same(stopped.choices[0].message.content, whole.partition(" capital")[0])
    same(stopped.choices[0].finish_reason, "stop")


@step("chat.completions.create(seed)")
def the_same_seed_gives_the_same_text() -> None:
    one, two = (chat(temperature=1, seed=11, max_tokens=16).choices[0].message.content for _ in range(2))
    same(one, two)
    other = chat(temperature=1, seed=12, max_tokens=16).choices[0].message.content
    holds(one != other, "another text with another seed", other)


@step("chat.completions.create(logprobs, top_logprobs)")
def tokens_have_log_probabilities() -> None:
    content = chat(logprobs=True, top_logprobs=3, max_tokens=3).choices[0].logprobs.content
    same([len(token.top_logprobs) for token in content], [3, 3, 3])
    holds(all(token.logprob <= 0 for token in content), "none above 0", [token.logprob for token in content])
    same(bytes(content[0].bytes).decode(), content[0].token)


@step("chat.completions.create(n)")
def a_question_gets_several_answers() -> None:
    choices = chat(n=3, temperature=1, seed=5).choices
    same([choice.index for choice in choices], [0, 1, 2])
    holds(len({choice.message.content for choice in choices}) > 1, "several texts", choices)


@step("chat.completions.create(response_format=json_object)")
def an_answer_is_a_json_object() -> None:
    content = chat(response_format={"type": "json_object"}, max_tokens=200).choices[0].message.content
    holds(isinstance(json.loads(content), dict), "an object", content)


@step("chat.completions.create(response_format=json_schema)")
def an_answer_is_json_of_its_schema() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    content = chat(response_format=wanted, max_tokens=80).choices[0].message.content
    same(sorted(json.loads(content)), ["age", "name"])


@step("chat.completions.parse")
def a_pydantic_model_is_filled() -> None:
    from pydantic import BaseModel

    class Place(BaseModel):
        capital: bool

    parsed = ANY.chat.completions.parse(model=CHAT, messages=ASK, response_format=Place, max_tokens=30)
    holds(isinstance(parsed.choices[0].message.parsed, Place), "a Place", parsed.choices[0].message)


@step("chat.completions.create(tools) of a model whose template has none, in either engine")
def tools_of_a_template_without_them_are_refused() -> None:
    same(refused(openai.BadRequestError, lambda: chat(tools=[TOOL])).param, "tools")
    same(refused(openai.BadRequestError, lambda: chat(model=GGUF, tools=[TOOL])).param, "tools")


@step("chat.completions.create(tools, tool_choice)")
def a_tool_is_called() -> None:
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        answer = chat(model=TOOLED, tools=[TOOL], tool_choice=choice, max_tokens=100)
        call = answer.choices[0].message.tool_calls[0]
        same(call.function.name, "weather")
        same(list(json.loads(call.function.arguments)), ["city"])
        same(answer.choices[0].finish_reason, "tool_calls")


@step("chat.completions.create(messages with calls and their results)")
def what_a_tool_gave_is_read() -> None:
    function = {"name": "weather", "arguments": '{"city": "Paris"}'}
    call = {"id": "abcdefghi", "type": "function", "function": function}
    turns = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "abcdefghi", "content": "rain"},
    ]
    holds(chat(model=TOOLED, messages=turns, tools=[TOOL]).usage.prompt_tokens > 60, "a longer prompt", turns)


@step("chat.completions.create(max_completion_tokens, logit_bias, top_p=0)")
def other_wishes_are_read() -> None:
    answer = ANY.chat.completions.create(model=CHAT, messages=ASK, max_completion_tokens=4, top_p=0)
    same(answer.usage.completion_tokens, 4)
    same(answer.choices[0].finish_reason, "length")
    bent = chat(logit_bias={"57": 100}, max_tokens=3).choices[0].message.content
    same(len(set(bent)), 1)


@step("chat.completions.create(max_tokens=0)")
def a_prompt_is_read_and_nothing_written() -> None:
    answer = chat(max_tokens=0)
    same((answer.choices[0].message.content, answer.usage.completion_tokens), ("", 0))


@step("completions.create")
def a_text_is_continued() -> None:
    answer = complete()
    holds("Paris" in answer.choices[0].text, "the word Paris", answer.choices[0].text)


@step("completions.create(stream=True)")
def a_streamed_completion_is_the_whole_one() -> None:
    text = "".join(chunk.choices[0].text for chunk in complete(stream=True))
    same(text, complete().choices[0].text)


@step("completions.create of a GGUF")
def a_text_of_a_gguf_is_continued() -> None:
    text = "".join(chunk.choices[0].text for chunk in complete(model=GGUF, stream=True))
    holds("Paris" in text, "the word Paris", text)


@step("completions.create(echo, logprobs, max_tokens=0)")
def a_prompt_has_log_probabilities() -> None:
    logprobs = complete(echo=True, logprobs=2, max_tokens=0).choices[0].logprobs
    same("".join(logprobs.tokens), "The capital of France is")
    same(logprobs.token_logprobs[0], None)
    holds(all(value <= 0 for value in logprobs.token_logprobs[1:]), "none above 0", logprobs.token_logprobs)


@step("completions.create(prompt=[…], best_of)")
def several_prompts_and_the_best_of_several() -> None:
    same(len(complete(prompt=["One, two,", "A, B,"]).choices), 2)
    same(len(complete(best_of=3, n=1, temperature=1, seed=2).choices), 1)


@step("completions.create(prompt=token ids)")
def a_prompt_of_tokens_is_continued() -> None:
    same(complete(prompt=[504, 3575, 282]).usage.prompt_tokens, 3)


@step("embeddings.create")
def texts_become_vectors() -> None:
    answer = CLIENT.embeddings.create(model=EMBEDDER, input=["a cat", "a dog"], encoding_format="float")
    same([len(item.embedding) for item in answer.data], [DIMENSIONS, DIMENSIONS])
    near(sum(number**2 for number in answer.data[0].embedding), 1)
    same(answer.usage.total_tokens, answer.usage.prompt_tokens)


@step("embeddings.create, as base64 unless told otherwise")
def base64_holds_the_same_numbers() -> None:
    plain = CLIENT.embeddings.create(model=EMBEDDER, input="a cat", encoding_format="float").data[0].embedding
    packed = CLIENT.embeddings.create(model=EMBEDDER, input="a cat").data[0].embedding
    holds(max(abs(a - b) for a, b in zip(plain, packed, strict=True)) < 1e-6, "the same numbers", packed[:3])


@step("embeddings.create(dimensions)")
def vectors_can_be_shorter() -> None:
    answer = CLIENT.embeddings.create(model=EMBEDDER, input="a cat", dimensions=64)
    same(len(answer.data[0].embedding), 64)


@step("embeddings.create(input=token ids)")
def tokens_need_the_name_of_their_tokenizer() -> None:
    tokens = [1037, 4937]
    refused(openai.BadRequestError, lambda: CLIENT.embeddings.create(model=EMBEDDER, input=tokens), "tokenizer")
    said: Any = {"model": EMBEDDER, "input": tokens, "extra_body": {"tokenizer": EMBEDDER}}
    by_tokens = CLIENT.embeddings.create(**said).data[0].embedding
    by_text = CLIENT.embeddings.create(model=EMBEDDER, input="a cat").data[0].embedding
    near(sum(a * b for a, b in zip(by_tokens, by_text, strict=True)), 1)


@step("embeddings.create of an empty text")
def empty_texts_are_refused_with_their_place() -> None:
    ask = lambda: CLIENT.embeddings.create(model=EMBEDDER, input=["a cat", ""])  # noqa: E731
    same(refused(openai.BadRequestError, ask).param, "input[1]")


@step("models.list, models.retrieve")
def models_are_listed() -> None:
    names = {model.id for model in CLIENT.models.list()}
    holds({CHAT, EMBEDDER} <= names, f"{CHAT} and {EMBEDDER}", names)
    same(CLIENT.models.retrieve(f"{OWNER}/{CHAT}").id, CHAT)
    refused(openai.NotFoundError, lambda: CLIENT.models.retrieve("absent"))


@step("errors: BadRequestError")
def what_is_wrong_is_400_and_names_the_field() -> None:
    same(refused(openai.BadRequestError, lambda: chat(temperature=9)).param, "temperature")
    same(refused(openai.BadRequestError, lambda: chat(messages=[])).param, "messages")
    same(refused(openai.BadRequestError, lambda: chat(extra_body={"no_such_field": 1})).param, "no_such_field")
    error = refused(openai.BadRequestError, lambda: complete(prompt="word " * 9000))
    same(error.code, "context_length_exceeded")
    same(refused(openai.BadRequestError, lambda: chat(model=EMBEDDER)).param, "model")


@step("errors: NotFoundError")
def an_unknown_model_or_adapter_is_404() -> None:
    same(refused(openai.NotFoundError, lambda: chat(model="absent")).param, "model")
    refused(openai.NotFoundError, lambda: chat(extra_body={"adapter_id": "absent"}))
    refused(openai.NotFoundError, lambda: CLIENT.embeddings.create(model="absent", input="a"))


@step("errors: AuthenticationError")
def a_wrong_key_is_401() -> None:
    stranger: Any = openai.OpenAI(base_url=f"{URL}/v1", api_key="ew_wrong", max_retries=0)
    refused(openai.AuthenticationError, lambda: stranger.chat.completions.create(model=CHAT, messages=ASK))


async def _first_limit() -> openai.RateLimitError | None:
    """Of more chats than may wait; all of them end with it."""
    async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=TOKEN, max_retries=0) as client:
        sdk: Any = client
        asked = [
            asyncio.create_task(sdk.chat.completions.create(model=CHAT, messages=ASK, max_tokens=400, temperature=1))
            for _ in range(MORE_THAN_WAIT)
        ]
        for answer in asyncio.as_completed(asked):
            try:
                await answer
            except openai.RateLimitError as error:
                for task in asked:
                    task.cancel()
                await asyncio.gather(*asked, return_exceptions=True)
                return error
    return None


@step("errors: RateLimitError")
def too_many_requests_are_told_when_to_come_again() -> None:
    error = asyncio.run(_first_limit())
    holds(error is not None and error.response.headers.get("retry-after"), "RateLimitError, with Retry-After", error)


if __name__ == "__main__":
    run()
