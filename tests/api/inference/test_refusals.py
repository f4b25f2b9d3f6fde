"""What the routes of embedders, classifiers and rankers refuse, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api
from tests.api.inference.asking import LONG, NEWS, post
from tests.workers.inference.models import HIDDEN


def _wrong(path: str) -> int:
    """The status for what is wrong with a request: OpenAI's clients know 400."""
    return 400 if path == "/v1/embeddings" else 422


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


@pytest.mark.parametrize("model", ["finder@99999999999999999999", "absent@99999999999999999999", "finder@0"])
def test_a_version_that_no_model_can_have_is_not_found(served: Api, model: str) -> None:
    answer = post(served, "/v1/embeddings", model=model, input=NEWS)
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "model")


def test_a_name_that_no_model_can_have_is_not_found(served: Api) -> None:
    answer = served.client.get("/v1/models/a%00b")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


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
