"""What OpenAI's SDK asks of /v1/responses."""

from __future__ import annotations

import json
from typing import Any

import openai

from tests.conformance.steps import CHAT, GGUF, TOKEN, URL, holds, refused, run, same, step

CLIENT: Any = openai.OpenAI(base_url=f"{URL}/v1", api_key=TOKEN, max_retries=0)
QUESTION = "What is the capital of France?"
PERSON: Any = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}},
    "required": ["name"],
    "additionalProperties": False,
}


def respond(**more: Any) -> Any:
    said = {"model": CHAT, "input": QUESTION, "max_output_tokens": 40, "temperature": 0, **more}
    return CLIENT.responses.create(**said)


@step("responses.create(input=text)")
def a_text_is_answered() -> None:
    answer = respond()
    holds("Paris" in answer.output_text, "the word Paris", answer.output_text)
    same((answer.object, answer.status, answer.error), ("response", "completed", None))
    same(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens)
    same(answer.store, False)


@step("responses.create(input=messages, instructions)")
def a_conversation_is_answered() -> None:
    turns = [
        {"role": "user", "content": [{"type": "input_text", "text": "My name is Ada."}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Hello Ada!", "annotations": []}]},
        {"role": "user", "content": QUESTION},
    ]
    answer = respond(input=turns, instructions="Answer in one line.")
    holds(answer.output_text, "a text", answer)
    same(answer.instructions, "Answer in one line.")
    holds(answer.usage.input_tokens > respond().usage.input_tokens, "more tokens read", answer.usage)


@step("responses.create(input=output of an earlier one)")
def what_was_answered_goes_on() -> None:
    first = respond()
    turns = [{"role": "user", "content": QUESTION}, *first.output, {"role": "user", "content": "And of Spain?"}]
    holds(respond(input=turns).output_text, "a text", first)


@step("responses.create(max_output_tokens)")
def an_answer_that_was_cut_is_incomplete() -> None:
    answer = respond(max_output_tokens=3)
    same((answer.status, answer.incomplete_details.reason), ("incomplete", "max_output_tokens"))
    same(answer.usage.output_tokens, 3)


@step("responses.create(stream=True)")
def a_stream_has_named_events() -> None:
    events = list(respond(stream=True))
    names = [event.type for event in events]
    same(names[:4], [f"response.{name}" for name in ("created", "in_progress", "output_item.added")] + [names[3]])
    same(names[3], "response.content_part.added")
    ends = ("output_text.done", "content_part.done", "output_item.done", "completed")
    same(names[-4:], [f"response.{name}" for name in ends])
    same([event.sequence_number for event in events], list(range(len(events))))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    same(text, respond().output_text)
    same(events[-1].response.output_text, text)
    holds(events[-1].response.usage.output_tokens, "tokens", events[-1].response.usage)


@step("responses.stream")
def the_sdks_own_reader_of_streams_is_content() -> None:
    said = {"model": CHAT, "input": QUESTION, "max_output_tokens": 40, "temperature": 0}
    with CLIENT.responses.stream(**said) as stream:
        for _ in stream:
            pass
        same(stream.get_final_response().output_text, respond().output_text)


@step("responses.create(text.format=json_schema)")
def an_answer_is_json_of_its_schema() -> None:
    wanted = {"format": {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}}
    same(list(json.loads(respond(text=wanted, max_output_tokens=60).output_text)), ["name"])


@step("responses.parse")
def a_pydantic_model_is_filled() -> None:
    from pydantic import BaseModel

    class Place(BaseModel):
        capital: bool

    answer = CLIENT.responses.parse(model=CHAT, input=QUESTION, text_format=Place, max_output_tokens=30)
    holds(isinstance(answer.output_parsed, Place), "a Place", answer.output)


@step("responses.create(include=logprobs, top_logprobs)")
def tokens_have_log_probabilities() -> None:
    answer = respond(include=["message.output_text.logprobs"], top_logprobs=2, max_output_tokens=3)
    logprobs = answer.output[0].content[0].logprobs
    same([len(token.top_logprobs) for token in logprobs], [2, 2, 2])


@step("responses.create of a GGUF")
def a_gguf_answers() -> None:
    holds(respond(model=GGUF, max_output_tokens=12).output_text, "a text", "none")
    events = list(respond(model=GGUF, max_output_tokens=12, stream=True))
    holds(events[-1].response.usage.output_tokens, "tokens", events[-1])


@step("responses.create(store, previous_response_id)")
def what_would_have_to_be_kept_is_refused_with_the_reason() -> None:
    for field, value in {"store": True, "previous_response_id": "resp_1", "conversation": "conv_1"}.items():
        same(refused(openai.BadRequestError, lambda: respond(**{field: value}), "kept").param, field)  # noqa: B023
    same(respond(store=False, max_output_tokens=1).store, False)


@step("responses.create: errors")
def refusals_name_the_fields_of_responses() -> None:
    same(refused(openai.BadRequestError, lambda: respond(max_output_tokens=0)).param, "max_output_tokens")
    same(refused(openai.BadRequestError, lambda: respond(tools=[{"type": "web_search"}])).param, "tools[0].type")
    same(refused(openai.BadRequestError, lambda: respond(input="word " * 9000)).param, "input")
    refused(openai.NotFoundError, lambda: respond(model="absent"))


if __name__ == "__main__":
    run()
