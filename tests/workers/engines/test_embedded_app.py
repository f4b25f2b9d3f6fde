"""The embedded engine's HTTP, without a model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from workers.engines.embedded.app import create_app
from workers.engines.embedded.dialects.requests import BODY_BYTES_MAX
from workers.engines.embedded.dialects.tokenizing import TokenizeRoute
from workers.engines.embedded.tasks.classifier import TEXTS_MAX, ServedClassifier
from workers.local_models.tokens import TokenTable

KEY = "correct"


@dataclass(frozen=True)
class Label:
    label: str
    score: float


class Lengths:
    """A classifier; a character is a token."""

    labels = ("long", "other")
    max_tokens = 8

    def tokenize(self, texts: Sequence[str]) -> TokenTable:
        ids = np.array([ord(letter) for text in texts for letter in text], np.int32)
        return TokenTable(ids, np.cumsum([0, *map(len, texts)]))

    def classify_tokens(self, tokens: TokenTable, scoring: str = "softmax") -> list[list[Label]]:
        texts = ["".join(map(chr, tokens.flat(np.array([row])))) for row in range(len(tokens))]
        if "crash" in texts:
            raise RuntimeError("secret detail")
        if scoring != "softmax":
            return [[Label(scoring, float(len(text)))] for text in texts]
        return [[Label("long" if len(text) > 3 else "short", 0.75), Label("other", 0.25)] for text in texts]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]


@pytest.fixture
def call() -> Iterator[Any]:
    served = ServedClassifier(Lengths(), TokenizeRoute(Path("nowhere")))
    app = create_app("alice/lengths@3", "d" * 64, served, KEY)

    def send(method: str, path: str, *, key: str | None = KEY, **options: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
            async with httpx.AsyncClient(transport=transport, base_url="http://engine", headers=headers) as client:
                return await client.request(method, path, **options)

        return asyncio.run(run())

    yield send
    served.close()


def test_classify_gives_the_best_labels_of_each_text(call: Any) -> None:
    answer = call("POST", "/classify", json={"inputs": ["a", "abcd"], "top_k": 1})
    assert answer.json() == {"results": [[{"label": "short", "score": 0.75}], [{"label": "long", "score": 0.75}]]}
    assert answer.headers["x-model"] == "alice/lengths@3"


def test_predict_answers_in_the_shape_of_text_embeddings_inference(call: Any) -> None:
    one = [{"score": 0.75, "label": "short"}, {"score": 0.25, "label": "other"}]
    assert call("POST", "/predict", json={"inputs": "a"}).json() == one
    assert call("POST", "/predict", json={"inputs": [["a"], ["b"]], "truncate": True}).json() == [one, one]
    assert call("POST", "/predict", json={"inputs": "a", "parameters": {"top_k": 1}}).json() == [one[:1]]


def test_predict_scores_as_it_is_asked(call: Any) -> None:
    sigmoid = {"inputs": "abc", "parameters": {"function_to_apply": "sigmoid"}}
    assert call("POST", "/predict", json=sigmoid).json() == [[{"score": 3.0, "label": "sigmoid"}]]
    assert call("POST", "/predict", json={"inputs": "abc", "raw_scores": True}).json() == [
        {"score": 3.0, "label": "none"}
    ]


def test_texts_that_were_cut_are_counted(call: Any) -> None:
    cut = call("POST", "/predict", json={"inputs": [["far too long"], ["a"]], "truncate": True})
    assert (cut.headers["x-truncated"], cut.headers["x-tokens"]) == ("1", "9")
    assert "x-truncated" not in call("POST", "/predict", json={"inputs": "a"}).headers
    assert call("POST", "/classify", json={"inputs": ["far too long"]}).headers["x-truncated"] == "1"
    assert call("POST", "/classify", json={"inputs": ["far too long"], "truncate": False}).status_code == 422


def test_tokens_that_went_through_the_model_are_counted_up_to_its_length() -> None:
    served = ServedClassifier(Lengths(), TokenizeRoute(Path("nowhere")))
    asyncio.run(served.batcher.submit([("softmax", "far too long"), ("softmax", "a")]))
    with pytest.raises(RuntimeError):
        asyncio.run(served.batcher.submit([("softmax", "crash")]))
    asyncio.run(served.batcher.submit([("softmax", "ab")]))
    served.close()
    assert served.tokens() == (8 + 1 + 2, 0)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"inputs": ["a", "b"]}, "pairs"),
        ({"inputs": [["a", "b"]]}, "pairs"),
        ({"inputs": "a", "parameters": {"function_to_apply": "relu"}}, "parameters.function_to_apply"),
        ({"inputs": "far too long"}, "12 tokens; this model reads 8"),
        ({"inputs": [["a"], ["far too long"]], "truncate": False}, "inputs[1]"),
        ({"inputs": "a", "truncation_direction": "left"}, "truncation_direction"),
        ({"inputs": []}, "1 to"),
        ({}, "inputs"),
    ],
)
def test_predict_refuses_what_it_cannot_do_in_words(call: Any, body: dict[str, Any], word: str) -> None:
    answer = call("POST", "/predict", json=body)
    assert answer.status_code == 422
    assert answer.json()["error_type"] == "Validation"
    assert word in answer.json()["error"]


@pytest.mark.parametrize("path", ["/classify", "/predict", "/info", "/", "/nothing-here", "/health/"])
@pytest.mark.parametrize("key", [None, "", "wrong", "correct "])
def test_every_path_but_health_asks_for_the_key(call: Any, path: str, key: str | None) -> None:
    assert call("POST", path, key=key).status_code == 401
    assert call("GET", path, key=key).status_code == 401


def test_health_is_open(call: Any) -> None:
    assert call("GET", "/health", key=None).status_code == 200


def test_info_names_model_digest_and_labels(call: Any) -> None:
    info = call("GET", "/info").json()
    assert (info["model_id"], info["model_sha"]) == ("alice/lengths@3", "d" * 64)
    assert info["model_type"]["classifier"] == {
        "id2label": {"0": "long", "1": "other"},
        "label2id": {"long": 0, "other": 1},
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"inputs": []}',
        b'{"inputs": [1]}',
        b'{"inputs": ["a"], "topk": 1}',
        b'{"inputs": ["a"], "top_k": 0}',
    ],
)
def test_classify_refuses_a_body_of_another_shape(call: Any, body: bytes) -> None:
    answer = call("POST", "/classify", content=body)
    assert (answer.status_code, answer.json()["error_type"]) == (422, "Validation")


def test_too_many_texts_and_too_large_bodies_are_refused(call: Any) -> None:
    assert call("POST", "/classify", json={"inputs": ["a"] * TEXTS_MAX}).status_code == 200
    assert call("POST", "/classify", json={"inputs": ["a"] * (TEXTS_MAX + 1)}).status_code == 422
    assert call("POST", "/classify", json={"inputs": ["a" * BODY_BYTES_MAX]}).status_code == 413


def test_a_failing_model_answers_424_without_its_internals(call: Any) -> None:
    answer = call("POST", "/classify", json={"inputs": ["crash"]})
    assert (answer.status_code, answer.json()["error_type"]) == (424, "Backend")
    assert "secret" not in answer.text
