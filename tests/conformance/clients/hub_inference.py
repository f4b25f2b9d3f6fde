"""What huggingface_hub's InferenceClient asks of a running platform, one model per address."""

from __future__ import annotations

from functools import cache
from typing import Any

from huggingface_hub import InferenceClient
from huggingface_hub.errors import UnknownError, ValidationError
from huggingface_hub.utils import HfHubHTTPError

from tests.conformance.steps import (
    CHAT,
    CLASSIFIER,
    DIMENSIONS,
    EMBEDDER,
    GGUF,
    LABELS,
    OWNER,
    TOKEN,
    URL,
    holds,
    near,
    refused,
    run,
    same,
    step,
)

PROMPT = "The capital of France is"
ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]


@cache  # a stream ends with its client
def client(model: str) -> Any:
    return InferenceClient(base_url=f"{URL}/models/{OWNER}/{model}", token=TOKEN)


@step("text_generation")
def a_text_is_continued() -> None:
    text = client(CHAT).text_generation(PROMPT, max_new_tokens=6)
    holds("Paris" in text, "the word Paris", text)


@step("text_generation(return_full_text, stop)")
def a_text_comes_with_its_prompt_and_ends_at_a_stop() -> None:
    text = client(CHAT).text_generation(PROMPT, max_new_tokens=20, return_full_text=True, stop=["Paris"])
    holds(text.startswith(PROMPT) and text.endswith("Paris"), "the prompt, to Paris", text)


@step("text_generation(details=True)")
def a_text_has_its_tokens() -> None:
    answer = client(CHAT).text_generation(PROMPT, max_new_tokens=6, details=True, top_n_tokens=2)
    same(answer.details.generated_tokens, 6)
    same(answer.details.finish_reason, "length")
    same("".join(token.text for token in answer.details.tokens), answer.generated_text)
    same(len(answer.details.top_tokens[0]), 2)


@step("text_generation(decoder_input_details)")
def a_prompt_has_its_tokens() -> None:
    answer = client(CHAT).text_generation(PROMPT, max_new_tokens=2, details=True, decoder_input_details=True)
    same("".join(token.text for token in answer.details.prefill), PROMPT)


@step("text_generation(stream=True, details=True)")
def a_stream_is_the_whole_text() -> None:
    events = list(client(CHAT).text_generation(PROMPT, max_new_tokens=6, stream=True, details=True))
    whole = client(CHAT).text_generation(PROMPT, max_new_tokens=6)
    same("".join(event.token.text for event in events), whole)
    same(events[-1].generated_text, whole)
    same(events[-1].details.generated_tokens, 6)


@step("text_generation(best_of, seed, truncate, do_sample)")
def what_is_drawn_can_be_had_again() -> None:
    said = {"max_new_tokens": 8, "do_sample": True, "temperature": 0.9, "seed": 3, "truncate": 3}
    one, two = (client(CHAT).text_generation(PROMPT, **said) for _ in range(2))
    same(one, two)
    best = client(CHAT).text_generation(PROMPT, max_new_tokens=4, do_sample=True, best_of=2, details=True)
    same(len(best.details.best_of_sequences), 1)


@step("text_generation(grammar)")
def a_text_is_of_its_grammar() -> None:
    grammar = {"type": "regex", "value": "[0-9]{3}"}
    text = client(CHAT).text_generation("A number: ", max_new_tokens=8, grammar=grammar)
    holds(text.isdigit() and len(text) == 3, "three digits", text)


@step("text_generation of a GGUF")
def a_text_of_a_gguf_is_continued() -> None:
    text = client(GGUF).text_generation(PROMPT, max_new_tokens=6)
    holds("Paris" in text, "the word Paris", text)


@step("text_generation(stream=True) of a GGUF")
def a_stream_of_a_gguf_is_the_whole_text() -> None:
    pieces = list(client(GGUF).text_generation(PROMPT, max_new_tokens=6, stream=True))
    same("".join(pieces), client(GGUF).text_generation(PROMPT, max_new_tokens=6))


@step("text_generation(details=True) of a GGUF")
def what_llama_cpp_can_not_tell_is_refused_in_tgis_words() -> None:
    refused(ValidationError, lambda: client(GGUF).text_generation(PROMPT, details=True, decoder_input_details=True))


@step("text_generation: ValidationError")
def what_is_wrong_is_tgis_validation_error() -> None:
    refused(ValidationError, lambda: client(CHAT).text_generation(PROMPT, temperature=-1.0), "Input validation error")
    refused(ValidationError, lambda: client(CHAT).text_generation("", max_new_tokens=1))


@step("text_generation(adapter_id)")
def an_unknown_adapter_is_never_answered_by_the_base() -> None:
    error: Any = refused(UnknownError, lambda: client(CHAT).text_generation(PROMPT, adapter_id="absent"), "adapter")
    same(error.__cause__.response.status_code, 404)


@step("chat_completion")
def a_chat_is_answered() -> None:
    answer = client(CHAT).chat_completion(ASK, max_tokens=12, temperature=0)
    holds("Paris" in answer.choices[0].message.content, "the word Paris", answer.choices[0].message.content)


@step("chat_completion(stream=True)")
def a_streamed_chat_is_the_whole_one() -> None:
    chunks = list(client(CHAT).chat_completion(ASK, max_tokens=12, temperature=0, stream=True))
    whole = client(CHAT).chat_completion(ASK, max_tokens=12, temperature=0).choices[0].message.content
    same("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), whole)


@step("feature_extraction")
def texts_become_vectors() -> None:
    vectors = client(EMBEDDER).feature_extraction(["a cat", "a dog"])
    same(vectors.shape, (2, DIMENSIONS))
    near(float((vectors[0] ** 2).sum()), 1)


@step("feature_extraction(normalize, truncate)")
def vectors_as_the_model_gives_them() -> None:
    vector = client(EMBEDDER).feature_extraction("a cat " * 400, normalize=False, truncate=True)
    same(vector.shape[-1], DIMENSIONS)


@step("sentence_similarity")
def sentences_are_compared() -> None:
    near_one, far_one = client(EMBEDDER).sentence_similarity("a cat", other_sentences=["a kitten", "tax law"])
    holds(near_one > far_one, "the kitten nearer than the law", (near_one, far_one))


@step("text_classification")
def a_text_has_all_labels_best_first() -> None:
    found = client(CLASSIFIER).text_classification("The soup was wonderful.")
    same(sorted(item.label for item in found), LABELS)
    same(found[0].label, "good")
    near(sum(item.score for item in found), 1)


@step("text_classification(top_k, function_to_apply)")
def labels_are_cut_and_scored_as_asked() -> None:
    text = "The soup was wonderful."
    same(len(client(CLASSIFIER).text_classification(text, top_k=1)), 1)
    raw = client(CLASSIFIER).text_classification(text, function_to_apply="none")
    soft = client(CLASSIFIER).text_classification(text, function_to_apply="softmax")
    holds(abs(sum(item.score for item in raw) - 1) > 1e-3, "numbers that are no probabilities", raw)
    near(sum(item.score for item in soft), 1)


@step("feature_extraction with a token that is not known")
def a_wrong_token_is_401() -> None:
    stranger: Any = InferenceClient(base_url=f"{URL}/models/{OWNER}/{EMBEDDER}", token="hf_wrong")
    error = refused(HfHubHTTPError, lambda: stranger.feature_extraction("a"))
    same(error.response.status_code, 401)


if __name__ == "__main__":
    run()
