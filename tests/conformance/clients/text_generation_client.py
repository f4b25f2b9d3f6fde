"""What text-generation 0.7, the client of text-generation-inference, asks of a running platform."""

from __future__ import annotations

from typing import Any

from text_generation import Client
from text_generation.errors import NotFoundError, ValidationError
from text_generation.types import Grammar, GrammarType, Message

from tests.conformance.steps import CHAT, GGUF, OWNER, TOKEN, URL, holds, refused, run, same, step

PROMPT = "The capital of France is"


def client(model: str = CHAT) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return Client(f"{URL}/models/{OWNER}/{model}", headers=headers, timeout=120)


@step("Client.generate")
def a_text_is_continued_with_its_tokens() -> None:
    answer = client().generate(PROMPT, max_new_tokens=6)
    holds("Paris" in answer.generated_text, "the word Paris", answer.generated_text)
    same("".join(token.text for token in answer.details.tokens), answer.generated_text)


@step("Client.generate(decoder_input_details, top_n_tokens)")
def a_prompt_has_its_tokens() -> None:
    answer = client().generate(PROMPT, max_new_tokens=2, decoder_input_details=True, top_n_tokens=2)
    same("".join(token.text for token in answer.details.prefill), PROMPT)
    same(len(answer.details.top_tokens[0]), 2)


@step("Client.generate(do_sample, seed, best_of, stop_sequences)")
def other_parameters_are_read() -> None:
    said = {"do_sample": True, "seed": 5, "temperature": 0.8, "max_new_tokens": 8}
    same(client().generate(PROMPT, **said).generated_text, client().generate(PROMPT, **said).generated_text)
    stopped = client().generate(PROMPT, max_new_tokens=20, stop_sequences=["Paris"])
    same(stopped.details.finish_reason, "stop_sequence")
    best = client().generate(PROMPT, do_sample=True, best_of=2, max_new_tokens=4)
    same(len(best.details.best_of_sequences), 1)


@step("Client.generate(grammar)")
def a_text_is_of_its_grammar() -> None:
    grammar = Grammar(type=GrammarType.Regex, value="[0-9]{3}")
    text = client().generate("A number: ", max_new_tokens=8, grammar=grammar).generated_text
    holds(text.isdigit(), "digits", text)


@step("Client.generate_stream")
def a_stream_is_the_whole_text() -> None:
    events = list(client().generate_stream(PROMPT, max_new_tokens=6))
    same("".join(event.token.text for event in events), events[-1].generated_text)
    same(events[-1].details.generated_tokens, 6)


@step("Client.generate_stream of a GGUF")
def a_stream_of_a_gguf_is_the_whole_text() -> None:
    events = list(client(GGUF).generate_stream(PROMPT, max_new_tokens=6))
    same("".join(event.token.text for event in events), events[-1].generated_text)
    same(events[-1].details.finish_reason, "length")


@step("Client.generate of a GGUF")
def a_text_of_a_gguf_is_continued_with_its_tokens() -> None:
    answer = client(GGUF).generate(PROMPT, max_new_tokens=6)
    same("".join(token.text for token in answer.details.tokens), answer.generated_text)


@step("Client.chat")
def a_chat_is_answered() -> None:
    answer = client().chat([Message(role="user", content="What is the capital of France?")], max_tokens=12, seed=1)
    holds(answer.choices[0].message.content, "a text", answer)
    holds(answer.system_fingerprint, "a fingerprint", answer)


@step("Client.generate: ValidationError")
def what_is_wrong_is_tgis_validation_error() -> None:
    refused(ValidationError, lambda: client().generate("word " * 9000), "Input validation error")


@step("Client.generate of a model that is not there")
def an_unknown_model_is_not_found() -> None:
    refused(NotFoundError, lambda: client("absent").generate(PROMPT))


if __name__ == "__main__":
    run()
