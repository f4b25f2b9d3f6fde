"""Embeddings, reranking and the routes of single models: a real API before real engines with tiny models."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import numpy as np
import openai
import pytest
from huggingface_hub import InferenceClient

from tests.api.conftest import Api
from tests.api.inference.asking import DEPLOYED, LATE, NEWS, post, token_of
from tests.workers.inference.models import HIDDEN


def test_embeddings_are_in_the_shape_of_openai(served: Api) -> None:
    answer = post(served, "/v1/embeddings", model="finder", input=[NEWS, LATE]).json()
    assert (answer["object"], answer["model"], answer["version"]) == ("list", "finder", 7)
    assert [(item["object"], item["index"], len(item["embedding"])) for item in answer["data"]] == [
        ("embedding", 0, HIDDEN),
        ("embedding", 1, HIDDEN),
    ]
    assert answer["usage"] == {"prompt_tokens": 13, "total_tokens": 13}


def test_base64_holds_the_same_numbers(served: Api) -> None:
    numbers = post(served, "/v1/embeddings", model="finder", input=NEWS).json()["data"][0]["embedding"]
    text = post(served, "/v1/embeddings", model="finder", input=NEWS, encoding_format="base64").json()
    decoded = struct.unpack(f"<{HIDDEN}f", base64.b64decode(text["data"][0]["embedding"]))
    assert list(decoded) == numbers


def test_the_openai_sdk_works_unchanged(served: Api) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=token_of(served), max_retries=0) as client:
        answer = client.embeddings.create(model="finder", input=[NEWS, LATE])
        assert answer.usage.prompt_tokens == 13
        plain = client.embeddings.create(model="finder", input=[NEWS, LATE], encoding_format="float")
        assert [item.embedding for item in answer.data] == [item.embedding for item in plain.data]
        small = client.embeddings.create(model=f"{served.user}/finder", input=NEWS, dimensions=4)
        assert len(small.data[0].embedding) == 4
        assert {model.id for model in client.models.list()} == set(DEPLOYED)
        assert client.models.retrieve("finder").owned_by == served.user
        assert client.models.retrieve(f"{served.user}/finder").id == "finder"
        with pytest.raises(openai.NotFoundError, match="no deployment"):
            client.embeddings.create(model="absent", input=NEWS)
        with pytest.raises(openai.BadRequestError, match="ask it at POST /v1/rerank"):
            client.embeddings.create(model="judge", input=NEWS)
        with pytest.raises(openai.BadRequestError, match="send texts") as tokens:
            client.embeddings.create(model="finder", input=[[101, 102]])
        assert tokens.value.param == "input"


def test_tokens_of_the_models_own_tokenizer_are_embedded_as_their_text(served: Api) -> None:
    path = f"/models/{served.user}/finder/tokenize"
    tokens = [token["id"] for token in post(served, path, inputs=NEWS, add_special_tokens=False).json()[0]]
    text = post(served, "/v1/embeddings", model="finder", input=NEWS).json()["data"]
    for asked in (tokens, [tokens]):
        own = post(served, "/v1/embeddings", model="finder", input=asked, tokenizer="finder").json()
        assert own["data"] == text
    for tokenizer, numbers, field in (("bert", tokens, "tokenizer"), ("finder", [99999], "input")):
        refused = post(served, "/v1/embeddings", model="finder", input=numbers, tokenizer=tokenizer)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, field)


def test_embeddings_have_the_shape_of_cohere_too(served: Api) -> None:
    asked = {"model": "finder", "texts": [LATE, NEWS], "embedding_types": ["float", "base64"]}
    answer = post(served, "/v2/embed", **asked, input_type="search_document").json()
    plain = post(served, "/v1/embeddings", model="finder", input=[LATE, NEWS]).json()
    assert answer["embeddings"]["float"] == [item["embedding"] for item in plain["data"]]
    assert len(answer["embeddings"]["base64"]) == 2
    assert answer["meta"]["billed_units"]["input_tokens"] == plain["usage"]["prompt_tokens"]
    query = post(served, "/v2/embed", **asked, input_type="search_query").json()
    prompted = post(served, "/v1/embeddings", model="finder", input=[LATE, NEWS], prompt_name="query").json()
    assert query["embeddings"]["float"] == [item["embedding"] for item in prompted["data"]]


def test_a_classifier_decides_in_the_shape_of_sglang(served: Api) -> None:
    plain = post(served, "/v1/classify", model="sorter", input=NEWS).json()["results"][0]
    good = next(item["score"] for item in plain if item["label"] == "good")
    questions: list[dict[str, Any]] = [
        {"id": "mood", "type": "choice", "question": "Which?", "options": [{"name": "good"}, {"name": "bad"}]},
        {"id": "how", "type": "score", "question": "How far?", "levels": ["bad", "good"]},
        {"id": "well", "type": "yes_no", "question": "Is it good?", "yes": "good", "no": "bad"},
    ]
    answers = post(served, "/v1/decisions", model="sorter", input=NEWS, questions=questions).json()["answers"]
    assert answers["mood"]["choice"] == plain[0]["label"]
    assert [answers["mood"]["label_mass"], answers["mood"]["probabilities"]["good"]] == pytest.approx([1, good])
    assert [answers["how"]["score"], answers["well"]["probabilities"]["yes"]] == pytest.approx([good, good])


def test_cohere_may_send_texts_in_pieces(served: Api) -> None:
    pieces = [{"type": "text", "text": "good news "}, {"type": "text", "text": "from the sea"}]
    answer = post(served, "/v2/embed", model="finder", inputs=[{"content": pieces}])
    assert answer.json()["texts"] == [NEWS]
    assert answer.json()["embeddings"] == post(served, "/v2/embed", model="finder", texts=[NEWS]).json()["embeddings"]
    both = post(served, "/v2/embed", model="finder", inputs=[{"content": pieces}], texts=[NEWS])
    assert (both.status_code, both.json()["error"]["param"]) == (400, "texts")


def test_the_hubs_client_gets_labels_as_a_list(served: Api) -> None:
    client = InferenceClient(base_url=f"{served.url}/models/{served.user}/sorter", token=token_of(served))
    labels = client.text_classification(NEWS)
    assert [label.label for label in labels] == [item["label"] for item in _classes(served)]
    assert len(client.text_classification(NEWS, top_k=1)) == 1
    outputs = client.text_classification(NEWS, function_to_apply="none")
    alone = client.text_classification(NEWS, function_to_apply="sigmoid")
    assert sum(label.score for label in labels) == pytest.approx(1)
    assert [label.score for label in alone] == pytest.approx([1 / (1 + math.exp(-out.score)) for out in outputs])


def _classes(served: Api) -> list[dict[str, Any]]:
    [classes] = post(served, "/v1/classify", model="sorter", input=NEWS).json()["results"]
    return list(classes)


def test_rerank_answers_as_jina_and_as_cohere(served: Api) -> None:
    documents = [LATE, {"text": NEWS, "id": 7}, "bad news"]
    jina = post(served, "/v1/rerank", model="judge", query="news", documents=documents, top_n=2).json()
    scores = [item["relevance_score"] for item in jina["results"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 2
    texts = [LATE, NEWS, "bad news"]
    whole = [{"text": LATE}, documents[1], {"text": "bad news"}]
    assert all(item["document"] == whole[item["index"]] for item in jina["results"])
    assert (jina["model"], jina["version"], jina["usage"]["total_tokens"]) == ("judge", 7, 4 + 5 + 2 + 3 * 4)
    cohere = post(served, "/v2/rerank", model="judge", query="news", documents=texts).json()
    assert [item["index"] for item in cohere["results"][:2]] == [item["index"] for item in jina["results"]]
    assert set(cohere["results"][0]) == {"index", "relevance_score"}
    assert cohere["meta"]["api_version"]["version"] == "2"
    short = post(served, "/v1/rerank", model="judge", query="news", documents=texts, return_documents=False).json()
    assert "document" not in short["results"][0]


def test_one_model_answers_as_text_embeddings_inference_does(served: Api) -> None:
    finder, judge, sorter = (f"/models/{served.user}/{name}" for name in ("finder", "judge", "sorter"))
    (vector,) = post(served, f"{finder}/embed", inputs=NEWS).json()
    assert vector == post(served, "/v1/embeddings", model="finder", input=NEWS).json()["data"][0]["embedding"]
    assert post(served, finder, inputs=NEWS).json() == [vector]
    cosines = post(served, f"{finder}/similarity", inputs={"source_sentence": NEWS, "sentences": [NEWS, LATE]}).json()
    assert cosines[0] == pytest.approx(1, abs=1e-5)
    ranked = post(served, f"{judge}/rerank", query="news", texts=[LATE, NEWS]).json()
    assert {item["index"] for item in ranked} == {0, 1}
    assert post(served, f"{judge}/", query="news", texts=[LATE, NEWS]).json() == ranked
    predicted = post(served, f"{sorter}/predict", inputs=NEWS).json()
    assert {item["label"] for item in predicted} == {"good", "bad"}
    ((first, *_),) = post(served, f"{finder}/tokenize", inputs=NEWS).json()
    assert first["special"]
    info = served.client.get(f"{finder}/info").json()
    assert info["model_sha"] and "embedding" in info["model_type"]
    assert served.client.get(f"{finder}/health").status_code == 200


def test_the_client_of_the_hub_works_unchanged(served: Api) -> None:
    client = InferenceClient(base_url=f"{served.url}/models/{served.user}/finder", token=token_of(served))
    vectors = client.feature_extraction(NEWS)
    expected = post(served, "/v1/embeddings", model="finder", input=NEWS).json()["data"][0]["embedding"]
    assert np.allclose(vectors, [expected], atol=1e-6)
    cosines = client.sentence_similarity(NEWS, [LATE, NEWS])
    assert cosines[1] == pytest.approx(1, abs=1e-5)
