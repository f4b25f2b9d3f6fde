"""Refusals name the places of the user's document, whatever pydantic's locations are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import huggingface_hub.inference._generated.types as hub
import openai.types
import openai.types.chat.completion_create_params as _openai_chat
import openai.types.completion_create_params as _openai_completion
import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator

from api.classify.schemas import ClassifyRequest
from api.deployments.schemas import DeploymentRequest
from api.embeddings.schemas import EmbeddingsRequest
from api.generation.schemas import ChatRequest as ApiChatRequest
from api.generation.schemas import CompletionRequest as ApiCompletionRequest
from api.rerank.schemas import CohereRequest, RerankRequest
from jobspecs.registry import SPECS
from jobspecs.validation import place_in, problems_of
from workers.engines.embedded.generation.requests import ChatRequest, CompletionRequest
from workers.engines.embedded.generation.tgi_requests import GenerateRequest, Parameters
from workers.engines.embedded.tasks.classifier import PredictBody
from workers.engines.embedded.tasks.embedder import EmbedBody, SimilarityBody
from workers.engines.embedded.tasks.reranker import RerankBody

BODIES: list[type[BaseModel]] = [
    *SPECS.values(),
    *(ChatRequest, CompletionRequest, GenerateRequest, ApiChatRequest, ApiCompletionRequest, DeploymentRequest),
    *(EmbeddingsRequest, RerankRequest, CohereRequest, ClassifyRequest),
    *(PredictBody, EmbedBody, SimilarityBody, RerankBody),
]
WRONG: list[Any] = [{"?": 1}, [{"?": 1}], [[None]], [""], "", 1.5, True, None, "?" * 300]
#: A part of a path: a name that schemas have, or the number of an entry.
NAME = re.compile(r"[A-Za-z_?][A-Za-z0-9_]*(\[\d+\])*")


def messages(body: Any, document: Any) -> dict[str | None, str]:
    try:
        TypeAdapter(body).validate_python(document)
    except ValidationError as error:
        return {problem.field: problem.message for problem in problems_of(error, document)}
    return {}


@pytest.mark.parametrize(
    ("body", "document", "place", "word"),
    [
        (CompletionRequest, {"prompt": "a", "stop": [""]}, "stop[0]", "the text is empty"),
        (CompletionRequest, {"prompt": "a", "stop": 3}, "stop", "a text or a list"),
        (ChatRequest, {"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "a text or a list"),
        (
            ChatRequest,
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "missing",
        ),
        (EmbeddingsRequest, {"model": "a", "input": []}, "input", "at least 1 item"),
        (RerankRequest, {"model": "a", "query": "b", "documents": [{}]}, "documents[0].text", "missing"),
        (GenerateRequest, {"inputs": "a", "parameters": {"watermark": True}}, "parameters.watermark", "or say false"),
    ],
)
def test_a_place_is_written_as_the_user_would(body: Any, document: Any, place: str, word: str) -> None:
    found = messages(body, document)
    assert list(found) == [place]
    assert word in found[place]


def test_sizes_are_told_in_words_of_documents() -> None:
    class Sized(BaseModel):
        names: list[str] = Field(min_length=1, max_length=2)
        code: str = Field(max_length=3)

    said = {
        "names": "the list should have at least 1 item, and has 0.",
        "code": "the text should have at most 3 characters.",
    }
    assert messages(Sized, {"names": [], "code": "abcd"}) == said
    assert (
        messages(Sized, {"names": ["a"] * 3, "code": ""})["names"] == "the list should have at most 2 items, and has 3."
    )


def test_what_asks_ends_without_a_full_stop() -> None:
    class Asking(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def _asks(cls, value: str) -> str:
            raise ValueError("which of them is meant?")

    assert messages(Asking, {"text": "a"}) == {"text": "which of them is meant?"}


def test_a_field_of_the_name_of_an_alternative_is_a_field_all_the_same() -> None:
    assert place_in({"lora": {"rank": "x"}}, ("lora", "lora", "rank")) == "lora.rank"
    assert place_in({"stop": ["a", ""]}, ("stop", "list[constrained-str]", 1)) == "stop[1]"
    assert place_in({"a": 1}, ("b", "c"), missing=True) == "c"


#: Words of Python and of pydantic; people write JSON and YAML.
PYTHON = re.compile(
    r"\b(?<!')(dict|dictionary|Mapping|NoneType|None|str|int|bool|float|tuple|instance|constrained|pydantic)\b"
    r"|Extra inputs|a valid (string|integer|number|list|boolean)|union|discriminator"
)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: f"{body.__module__}.{body.__name__}")
def test_no_refusal_names_what_is_no_field(body: type[BaseModel]) -> None:
    schema = body.model_json_schema()
    names = {"?", *_names(schema)}
    for path in _paths(schema, schema, 0):
        for wrong in WRONG:
            document = _around(path, wrong)
            for place, message in messages(body, document).items():
                assert not PYTHON.search(message), (place, wrong, message)
                parts = (place or "?").split(".")
                assert all(NAME.fullmatch(part) for part in parts), place
                assert all(part.partition("[")[0] in names for part in parts), place


def _names(schema: Any) -> Iterator[str]:
    """Every field that a schema speaks of."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for value in schema.values():
            yield from _names(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _names(value)


def _paths(schema: Any, root: Any, depth: int) -> Iterator[tuple[str | int, ...]]:
    """Places of a document, down to four fields deep."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    for alternative in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _paths(alternative, root, depth)
    if depth == 4:
        return
    for name, field in schema.get("properties", {}).items():
        yield (name,)
        yield from ((name, *rest) for rest in _paths(field, root, depth + 1))
    if isinstance(schema.get("items"), dict):
        yield from ((0, *rest) for rest in _paths(schema["items"], root, depth + 1))


def _around(path: tuple[str | int, ...], value: Any) -> Any:
    for part in reversed(path):
        value = [value] if isinstance(part, int) else {part: value}
    return value


@pytest.mark.parametrize(
    ("body", "document", "types"),
    [
        (ChatRequest, {"messages": [{"role": "user", "content": "a"}]}, _openai_chat.CompletionCreateParamsBase),
        (ChatRequest, {"messages": [{"role": "user", "content": "a"}]}, hub.ChatCompletionInput),
        (CompletionRequest, {"prompt": "a"}, _openai_completion.CompletionCreateParamsBase),
        (EmbeddingsRequest, {"model": "a", "input": "b"}, openai.types.EmbeddingCreateParams),
        (Parameters, {}, hub.TextGenerationInputGenerateParameters),
        (EmbedBody, {"inputs": "a"}, hub.FeatureExtractionInput),
    ],
)
def test_a_field_that_clients_know_is_never_called_unknown(body: Any, document: Any, types: Any) -> None:
    unserved = 0
    for name in types.__annotations__:
        for problem in messages(body, {**document, name: ["x"]}).values():
            assert "unknown" not in problem, name
            unserved += "known, but it isn't served here" in problem
    assert unserved or body in (EmbeddingsRequest, EmbedBody)
    assert "unknown field" in messages(body, {**document, "temprature": 1})["temprature"]
