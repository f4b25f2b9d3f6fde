"""Routes of text-embeddings-inference, text-generation-inference, Jina and SGLang, asked without any client.

What is expected is what their published descriptions say: fields of an answer, and the shape of an error.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from tests.conformance.steps import (
    CHAT,
    CLASSIFIER,
    DIMENSIONS,
    EMBEDDER,
    GGUF,
    LABELS,
    OWNER,
    RERANKER,
    TOKEN,
    URL,
    holds,
    near,
    run,
    same,
    step,
)

#: Fields that every /info has: TEI's, and TGI's.
TEI_INFO = {"model_id", "model_sha", "model_type", "max_input_length", "max_client_batch_size", "auto_truncate"}
TGI_INFO = {"model_id", "model_sha", "model_pipeline_tag"}
#: Of TEI and TGI, and not here: below /models/OWNER/NAME they are 404.
UNSERVED = ("/embed_all", "/embed_sparse", "/decode", "/vertex", "/invocations", "/chat_tokenize")


def ask(path: str, body: Any = None) -> tuple[int, Any]:
    """Status and document, or the text of a stream."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{URL}{path}", content, headers)) as answer:
            status, text, kind = answer.status, answer.read().decode(), answer.headers["Content-Type"] or ""
    except urllib.error.HTTPError as error:
        status, text, kind = error.code, error.read().decode(), error.headers["Content-Type"] or ""
    return status, json.loads(text) if "json" in kind else text


def of(model: str, path: str, body: Any = None) -> Any:
    """The answer of one model's route, a success."""
    status, answer = ask(f"/models/{OWNER}/{model}{path}", body)
    same(status, 200)
    return answer


@step("TEI: POST /embed")
def vectors_are_a_list_of_lists() -> None:
    for inputs, rows in (("a cat", 1), (["a cat", "a dog"], 2)):
        vectors = of(EMBEDDER, "/embed", {"inputs": inputs, "normalize": True, "truncate": False})
        same([len(vector) for vector in vectors], [DIMENSIONS] * rows)
    same(of(EMBEDDER, "", {"inputs": "a cat"}), of(EMBEDDER, "/embed", {"inputs": "a cat"}))


@step("TEI: POST /embed (truncate)")
def long_texts_are_refused_unless_they_may_be_cut() -> None:
    status, error = ask(f"/models/{OWNER}/{EMBEDDER}/embed", {"inputs": "cat " * 900})
    same((status, set(error) >= {"error", "error_type"}, error["error_type"]), (422, True, "Validation"))
    same(len(of(EMBEDDER, "/embed", {"inputs": "cat " * 900, "truncate": True})), 1)


@step("TEI: POST /similarity")
def similarities_are_a_list_of_numbers() -> None:
    inputs = {"source_sentence": "a cat", "sentences": ["a kitten", "tax law"]}
    first, second = of(EMBEDDER, "/similarity", {"inputs": inputs})
    holds(first > second, "the kitten first", (first, second))


@step("TEI: POST /predict")
def predictions_are_labels_with_scores() -> None:
    single = of(CLASSIFIER, "/predict", {"inputs": "The soup was wonderful."})
    same(sorted(item["label"] for item in single), LABELS)
    near(sum(item["score"] for item in single), 1)
    same(len(of(CLASSIFIER, "/predict", {"inputs": [["a"], ["b"]], "raw_scores": True})), 2)


@step("TEI: POST /rerank")
def ranks_are_a_bare_list_best_first() -> None:
    body = {"query": "Where is bread?", "texts": ["a cat", "bread at the bakery"], "return_text": True}
    ranked = of(RERANKER, "/rerank", body)
    same([set(item) for item in ranked], [{"index", "score", "text"}] * 2)
    holds(ranked[0]["score"] >= ranked[1]["score"], "best first", ranked)


@step("TEI: POST /tokenize")
def tokens_have_their_places() -> None:
    [tokens] = of(EMBEDDER, "/tokenize", {"inputs": "a cat"})
    same([set(token) for token in tokens], [{"id", "text", "special", "start", "stop"}] * 4)


@step("TEI and TGI: GET /info, GET /health")
def models_say_what_they_are() -> None:
    for model in (EMBEDDER, CLASSIFIER, RERANKER):
        holds(set(of(model, "/info")) >= TEI_INFO, f"the fields {sorted(TEI_INFO)}", of(model, "/info"))
    for model in (CHAT, GGUF):
        holds(set(of(model, "/info")) >= TGI_INFO, f"the fields {sorted(TGI_INFO)}", of(model, "/info"))
    for model in (EMBEDDER, CLASSIFIER, RERANKER, CHAT, GGUF):
        of(model, "/health")


@step("TGI: POST /generate, POST /")
def generated_texts_have_tgis_fields() -> None:
    body = {"inputs": "The capital of France is", "parameters": {"max_new_tokens": 3, "details": True}}
    for model in (CHAT, GGUF):
        answer = of(model, "/generate", body)
        same(set(answer), {"generated_text", "details"})
        holds(
            set(answer["details"]) >= {"finish_reason", "generated_tokens", "seed", "prefill", "tokens"},
            "TGI's details",
            answer["details"],
        )
        same([set(token) for token in answer["details"]["tokens"]], [{"id", "text", "logprob", "special"}] * 3)
        same(of(model, "", body), [answer])


@step("TGI: POST /generate_stream")
def a_stream_has_an_event_per_token_and_no_done() -> None:
    body = {"inputs": "The capital of France is", "parameters": {"max_new_tokens": 3, "details": True}}
    for model in (CHAT, GGUF):
        text = of(model, "/generate_stream", body)
        events = [json.loads(line.removeprefix("data:")) for line in text.split("\n\n") if line.startswith("data:")]
        same([event["index"] for event in events], [1, 2, 3])
        same([event["generated_text"] is None for event in events], [True, True, False])
        holds(events[-1]["details"]["input_length"], "an input_length", events[-1])


@step("TGI: POST /tokenize")
def tokens_of_a_language_model_are_one_list() -> None:
    tokens = of(CHAT, "/tokenize", {"inputs": "The capital"})
    same([set(token) for token in tokens], [{"id", "text", "start", "stop"}] * 2)


@step("TGI: errors")
def errors_have_tgis_kinds() -> None:
    for model in (CHAT, GGUF):
        for path in ("", "/generate"):
            body = {"inputs": "a", "parameters": {"typical_p": 0.5}}
            status, error = ask(f"/models/{OWNER}/{model}{path}", body)
            same((status, error["error_type"]), (422, "validation"))
    status, error = ask(f"/models/{OWNER}/absent/generate", {"inputs": "a"})
    same((status, error["error_type"]), (404, "not_found"))


@step("TEI and TGI: routes that are not served")
def other_routes_are_not_found() -> None:
    for path in UNSERVED:
        same((path, ask(f"/models/{OWNER}/{EMBEDDER}{path}", {})[0]), (path, 404))


@step("Jina: POST /v1/rerank")
def documents_are_ranked_as_jina_does() -> None:
    documents = ["a cat", {"text": "bread at the bakery", "id": 7}]
    body = {"model": RERANKER, "query": "Where is bread?", "documents": documents, "top_n": 2}
    status, answer = ask("/v1/rerank", body)
    same((status, {"model", "results", "usage"} <= set(answer)), (200, True))
    same([set(item) for item in answer["results"]], [{"index", "relevance_score", "document"}] * 2)
    holds(answer["usage"]["total_tokens"], "tokens", answer["usage"])
    status, cut = ask("/v1/rerank", {**body, "documents": ["cat " * 900], "top_n": 1, "truncate": False})
    same(status, 422)
    status, cut = ask("/v1/rerank", {**body, "documents": ["cat " * 900], "top_n": 1, "return_documents": False})
    same((status, cut["usage"]["truncated_texts"], set(cut["results"][0])), (200, 1, {"index", "relevance_score"}))


@step("Jina: POST /v1/embeddings")
def texts_are_embedded_as_jina_asks() -> None:
    body = {"model": EMBEDDER, "input": ["a cat"], "normalized": True, "embedding_type": "float", "dimensions": 32}
    status, answer = ask("/v1/embeddings", body)
    same((status, len(answer["data"][0]["embedding"])), (200, 32))
    status, error = ask("/v1/embeddings", {**body, "late_chunking": True})
    same((status, error["error"]["param"]), (400, "late_chunking"))


@step("SGLang: POST /v1/decisions")
def a_classifier_decides() -> None:
    options = [{"name": label} for label in LABELS]
    questions = [
        {"id": "mood", "type": "choice", "question": "Which mood?", "options": options},
        {"id": "well", "type": "yes_no", "question": "Is it good?", "yes": "good", "no": "bad"},
        {"id": "how", "type": "score", "question": "How good?", "levels": LABELS},
    ]
    said = {"model": CLASSIFIER, "input": "The soup was wonderful.", "questions": questions}
    status, answer = ask("/v1/decisions", said)
    same((status, answer["object"], answer["answers"]["mood"]["choice"]), (200, "decisions", "good"))
    near(answer["answers"]["well"]["probabilities"]["yes"], answer["answers"]["how"]["score"])
    near(answer["answers"]["mood"]["label_mass"], 1)


if __name__ == "__main__":
    run()
