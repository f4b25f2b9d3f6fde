"""Embeddings, reranking and the routes of single models: a real API before real engines with tiny models."""

from __future__ import annotations

import base64
import math
import secrets
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from huggingface_hub import InferenceClient

from jobspecs.manifest import Manifest
from tests.api.conftest import Api
from tests.workers.inference.models import HIDDEN
from tests.workers.inference.serving_here import KEY, tiny_engine

NEWS = "good news from the sea"
LATE = "the train is late"
LONG = "the sea " * 50
#: Deployment -> task.
DEPLOYED = {"sorter": "text-classification", "finder": "sentence-similarity", "judge": "text-ranking"}


@dataclass(frozen=True)
class Running:
    endpoint: str
    manifest: Manifest


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Running]]:
    """Deployment -> its engine."""
    root = tmp_path_factory.mktemp("engines")
    with ExitStack() as stack:
        yield {
            name: Running(*stack.enter_context(tiny_engine(task, root / name, f"ada/{name}@7")))
            for name, task in DEPLOYED.items()
        }


@pytest.fixture
def served(api: Api, engines: Mapping[str, Running]) -> Api:
    """An API whose user has deployed one model per task."""
    for name, running in engines.items():
        with api.database.unit_of_work() as work:
            prefix = f"artifacts/{secrets.token_hex(8)}"
            work.models.add_version(api.user_id(), name, manifest=running.manifest, prefix=prefix)
        answer = api.client.put(f"/v1/deployments/{name}")
        assert answer.status_code == 202, answer.text
        with api.database.unit_of_work() as work:
            row = work.deployments.find(api.reach(), name)
            assert row is not None
            row.host, row.state, row.endpoint, row.endpoint_key = "host-1", "ready", running.endpoint, KEY
    return api


def post(api: Api, path: str, **body: Any) -> httpx.Response:
    return api.client.post(path, json=body)


def token_of(api: Api) -> str:
    return api.client.headers["Authorization"].removeprefix("Bearer ")


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


def _wrong(path: str) -> int:
    """The status for what is wrong with a request: OpenAI's clients know 400."""
    return 400 if path == "/v1/embeddings" else 422


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


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({"type": "choice", "options": [{"name": "good"}, {"name": "ugly"}]}, "questions[1].options"),
        ({"type": "choice", "options": [{"name": "good"}, {"name": "good"}]}, "questions[1].options"),
        ({"type": "yes_no"}, "questions[1].yes"),
        ({"type": "score", "levels": ["good"]}, "questions[1].levels"),
        ({"type": "yes_no", "yes": "good", "no": "bad", "id": "first"}, "questions[1].id"),
    ],
)
def test_decisions_that_a_classifier_can_not_make_are_refused(
    served: Api, question: dict[str, Any], field: str
) -> None:
    first = {"id": "first", "type": "yes_no", "question": "Good?", "yes": "good", "no": "bad"}
    questions = [first, {"id": "second", "question": "And?", **question}]
    answer = post(served, "/v1/decisions", model="sorter", input=NEWS, questions=questions)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


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


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"input": []}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [1, 2, 3]}, "send texts"),
        ({"input": "a" * 100_001}, "input"),
        ({"dimensions": HIDDEN + 1}, str(HIDDEN)),
        ({"dimensions": 0}, "dimensions"),
        ({"prompt_name": "nobody"}, "query"),
        ({"encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_what_an_embedder_cannot_do_is_refused_in_words(served: Api, changes: dict[str, Any], word: str) -> None:
    answer = post(served, "/v1/embeddings", **{"model": "finder", "input": NEWS, **changes})
    assert answer.status_code == 400
    assert word in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/v1/embeddings", {"model": "finder", "input": ""}, "input"),
        ("/v1/embeddings", {"model": "finder", "input": [NEWS, ""]}, "input[1]"),
        ("/v1/classify", {"model": "sorter", "input": [NEWS, "a", ""]}, "input[2]"),
        ("/v1/rerank", {"model": "judge", "query": "", "documents": [NEWS]}, "query"),
        ("/v1/rerank", {"model": "judge", "query": "a", "documents": [NEWS, {"text": ""}]}, "documents[1].text"),
        ("/v2/rerank", {"model": "judge", "query": "a", "documents": [""]}, "documents[0]"),
        ("finder/embed", {"inputs": [NEWS, ""]}, "inputs[1]"),
        ("sorter/predict", {"inputs": [[NEWS], [""]]}, "inputs[1][0]"),
        ("judge/rerank", {"query": "a", "texts": [NEWS, ""]}, "texts[1]"),
    ],
)
def test_an_empty_text_is_refused_with_its_place(served: Api, path: str, body: dict[str, Any], place: str) -> None:
    answer = post(served, path if path.startswith("/") else f"/models/{served.user}/{path}", **body)
    assert answer.status_code == _wrong(path)
    error = answer.json()["error"]
    message = error["message"] if isinstance(error, dict) else error
    assert f"{place}: the text is empty" in message
    assert not isinstance(error, dict) or error["param"] == place


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


def test_a_text_that_is_too_long_is_refused_or_cut_with_a_sign(served: Api) -> None:
    refused = post(served, "/v1/embeddings", model="finder", input=[NEWS, LONG])
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "context_length_exceeded")
    assert "input[1]" in error["message"] and "truncate: true" in error["message"]
    cut = post(served, "/v1/embeddings", model="finder", input=[NEWS, LONG], truncate=True).json()
    assert cut["usage"] == {"prompt_tokens": 71, "total_tokens": 71, "truncated_texts": 1}
    assert post(served, "/v1/classify", model="sorter", input=LONG).json()["truncated_texts"] == 1
    assert post(served, "/v1/classify", model="sorter", input=LONG, truncate=False).status_code == 422
    asked = {"model": "judge", "query": "news", "documents": [LONG, NEWS]}
    assert post(served, "/v1/rerank", **asked).json()["usage"]["truncated_texts"] == 1
    assert post(served, "/v1/rerank", **asked, truncate=False).status_code == 422
    assert "cut" in post(served, "/v2/rerank", **asked).json()["meta"]["warnings"][0]
    assert "warnings" not in post(served, "/v2/rerank", **asked, max_tokens_per_doc=3).json()["meta"]
    path = f"/models/{served.user}/finder/embed"
    assert post(served, path, inputs=LONG).status_code == 422
    assert post(served, path, inputs=LONG, truncate=True).headers["x-truncated"] == "1"


@pytest.mark.parametrize(
    ("path", "body", "changes"),
    [
        ("/v1/embeddings", {"model": "finder", "input": NEWS}, {"input_type": "query"}),
        ("/v1/embeddings", {"model": "finder", "input": NEWS}, {"late_chunking": True}),
        ("/v1/rerank", {"model": "judge", "query": "a", "documents": ["b"]}, {"instruction": "be kind"}),
        ("/v2/rerank", {"model": "judge", "query": "a", "documents": ["b"]}, {"return_documents": True}),
        ("/v1/classify", {"model": "sorter", "input": NEWS}, {"truncate_prompt_tokens": 3}),
    ],
)
def test_a_field_that_would_change_the_answer_elsewhere_is_refused(
    served: Api, path: str, body: dict[str, Any], changes: dict[str, Any]
) -> None:
    answer = post(served, path, **body, **changes)
    (name,) = changes
    assert (answer.status_code, answer.json()["error"]["param"]) == (_wrong(path), name)
    assert post(served, path, **body, **{name: None}, user="u", metadata={}).status_code == 200


@pytest.mark.parametrize(
    "changes", [{"documents": []}, {"documents": ["a"] * 1025}, {"top_n": 0}, {"documents": [{"title": "a"}]}]
)
def test_a_ranking_of_another_shape_is_refused(served: Api, changes: dict[str, Any]) -> None:
    for path in ("/v1/rerank", "/v2/rerank"):
        body = {"model": "judge", "query": "news", "documents": [NEWS], **changes}
        assert post(served, path, **body).status_code == 422


@pytest.mark.parametrize(
    ("path", "body", "wanted"),
    [
        ("/v1/classify", {"input": NEWS}, "sorter"),
        ("/v1/embeddings", {"input": NEWS}, "finder"),
        ("/v1/rerank", {"query": "news", "documents": [NEWS]}, "judge"),
        ("/v2/rerank", {"query": "news", "documents": [NEWS]}, "judge"),
    ],
)
def test_a_model_for_another_task_is_refused_with_the_route_that_serves_it(
    served: Api, path: str, body: dict[str, Any], wanted: str
) -> None:
    for name, route in (("sorter", "/v1/classify"), ("finder", "/v1/embeddings"), ("judge", "/v1/rerank")):
        answer = post(served, path, **body, model=name)
        if name == wanted:
            assert answer.status_code == 200, answer.text
        else:
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (_wrong(path), "wrong_task", "model")
            assert f"ask it at POST {route}" in error["message"]


def test_a_model_that_is_not_ready_answers_503(served: Api) -> None:
    with served.database.unit_of_work() as work:
        row = work.deployments.find(served.reach(), "finder")
        assert row is not None
        row.state, row.endpoint, row.endpoint_key = "starting", None, None
    answer = post(served, "/v1/embeddings", model="finder", input=NEWS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "deployment_not_ready")
    answer = post(served, f"/models/{served.user}/finder/embed", inputs=NEWS)
    assert (answer.status_code, answer.json()["error_type"]) == (503, "Unhealthy")
    assert int(answer.headers["Retry-After"]) > 0


def test_the_models_of_others_do_not_exist(served: Api) -> None:
    with served.as_user(served.new_user()) as other:
        for name in ("finder", f"{served.user}/finder"):
            body = {"model": name, "input": NEWS}
            assert other.post("/v1/embeddings", json=body).status_code == 404
            assert other.get(f"/v1/models/{name}").status_code == 404
        answer = other.post(f"/models/{served.user}/finder/embed", json={"inputs": NEWS})
        assert (answer.status_code, answer.json()["error_type"]) == (404, "NotFound")
        assert other.get("/v1/models").json() == {"object": "list", "data": []}


def test_a_name_that_no_model_can_have_is_not_found(served: Api) -> None:
    answer = served.client.get("/v1/models/a%00b")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


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


def test_the_errors_of_one_model_have_the_shape_of_text_embeddings_inference(served: Api) -> None:
    finder = f"/models/{served.user}/finder"
    for answer, status, kind, word in (
        (post(served, f"{finder}/embed", inputs=[1, 2]), 422, "Validation", "tokens"),
        (post(served, f"{finder}/rerank", query="a", texts=["b"]), 422, "Validation", "/v1/embeddings"),
        (served.client.post(f"{finder}/embed", content=b'{"inputs": '), 400, "Validation", "JSON"),
        (post(served, f"/models/{served.user}/absent/embed", inputs="a"), 404, "NotFound", "absent"),
    ):
        assert (answer.status_code, answer.json()["error_type"]) == (status, kind)
        assert word in answer.json()["error"]
    with served.as_user(None) as nobody:
        answer = nobody.post(f"{finder}/embed", json={"inputs": "a"})
        assert (answer.status_code, answer.json()["error_type"]) == (401, "Unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_client_of_the_hub_works_unchanged(served: Api) -> None:
    client = InferenceClient(base_url=f"{served.url}/models/{served.user}/finder", token=token_of(served))
    vectors = client.feature_extraction(NEWS)
    expected = post(served, "/v1/embeddings", model="finder", input=NEWS).json()["data"][0]["embedding"]
    assert np.allclose(vectors, [expected], atol=1e-6)
    cosines = client.sentence_similarity(NEWS, [LATE, NEWS])
    assert cosines[1] == pytest.approx(1, abs=1e-5)
