"""Each task's routes of the embedded engine, on tiny real models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from jobspecs.lifecycle import Reason
from jobspecs.manifest import read_manifest
from jobspecs.tasks import SERVED_TASKS
from tests.workers.inference.models import BUILDERS, HIDDEN, build_reranker
from workers.engines.embedded.app import create_app
from workers.engines.embedded.server import load
from workers.engines.embedded.tasks.embedder import TEXTS_MAX
from workers.engines.embedded.tasks.registry import LOADERS
from workers.engines.embedded.tasks.served import ServedModel, in_groups
from workers.engines.interface import EngineOrder
from workers.local_models.embedding_model import load_embedder
from workers.local_models.ranking_model import load_reranker
from workers.run.context import RunFailed

Ask = Callable[..., httpx.Response]
KEY = "key"
NEWS = "good news from the sea"
LATE = "the train is late"
#: 102 tokens with [CLS] and [SEP]; the models read 64.
LONG = "the sea " * 50


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Task -> an artifact for it."""
    root = tmp_path_factory.mktemp("artifacts")
    for task, build in BUILDERS.items():
        build(root / task)
    return {task: root / task for task in BUILDERS}


@pytest.fixture(scope="module")
def engines(folders: dict[str, Path]) -> Iterator[dict[str, Ask]]:
    """Task -> what asks its engine: method, path, and options of httpx."""
    with ExitStack() as stack:
        asks = {}
        for task, folder in folders.items():
            served = LOADERS[task](EngineOrder(f"alice/{task}@1", task, folder, "d" * 64, 0, KEY))
            stack.callback(served.close)
            asks[task] = _asking(task, served)
        yield asks


def _asking(task: str, served: ServedModel) -> Ask:
    app = create_app(f"alice/{task}@1", "d" * 64, served, KEY)

    def ask(method: str, path: str, **options: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            headers = {"Authorization": f"Bearer {KEY}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://engine", headers=headers) as client:
                return await client.request(method, path, **options)

        return asyncio.run(run())

    return ask


@pytest.fixture
def embedder(engines: dict[str, Ask]) -> Ask:
    return engines["sentence-similarity"]


@pytest.fixture
def reranker(engines: dict[str, Ask]) -> Ask:
    return engines["text-ranking"]


def test_the_engine_serves_the_tasks_that_may_be_deployed() -> None:
    assert set(LOADERS) == set(SERVED_TASKS)


def test_a_task_that_no_engine_serves_is_refused_with_those_that_are(folders: dict[str, Path]) -> None:
    order = EngineOrder("alice/painter@1", "image-classification", folders["text-ranking"], "d" * 64, 0, KEY)
    with pytest.raises(RunFailed, match=r"image-classification.*text-ranking") as caught:
        load(order)
    assert caught.value.reason is Reason.unsatisfiable


def test_a_damaged_base_is_refused_before_anything_is_loaded(folders: dict[str, Path], tmp_path: Path) -> None:
    digest = build_reranker(tmp_path / "base").digest
    (tmp_path / "base" / "config.json").write_text("{}")
    folder = folders["text-ranking"]
    order = EngineOrder("alice/adapter@1", "text-ranking", folder, read_manifest(folder).digest, 0, KEY)
    with pytest.raises(RunFailed, match=r"config\.json is damaged"):
        load(replace(order, base_dir=tmp_path / "base", base_digest=digest))


def test_encode_gives_the_rows_as_bytes(embedder: Ask, folders: dict[str, Path]) -> None:
    answer = embedder("POST", "/encode", json={"inputs": [NEWS, LATE, NEWS]})
    assert (answer.headers["x-dimensions"], answer.headers["x-model"]) == (str(HIDDEN), "alice/sentence-similarity@1")
    rows = np.frombuffer(answer.content, "<f4").reshape(3, HIDDEN)
    expected = load_embedder(folders["sentence-similarity"]).encode([NEWS, LATE, NEWS])
    assert np.allclose(rows, expected, atol=1e-6)
    # [CLS] and [SEP] count: 5 + 2, 4 + 2, 5 + 2.
    assert answer.headers["x-tokens"] == "20"


def test_embed_speaks_as_text_embeddings_inference_does(embedder: Ask) -> None:
    (one,) = embedder("POST", "/embed", json={"inputs": NEWS}).json()
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    many = embedder("POST", "/embed", json={"inputs": [LATE, NEWS], "truncate": True}).json()
    assert many[1] == pytest.approx(one, abs=1e-6)
    (raw,) = embedder("POST", "/embed", json={"inputs": NEWS, "normalize": False}).json()
    assert np.linalg.norm(raw) != pytest.approx(1, abs=1e-3)
    assert np.asarray(raw) / np.linalg.norm(raw) == pytest.approx(one, abs=1e-5)


def test_fewer_dimensions_are_the_first_ones_with_length_1(embedder: Ask) -> None:
    (whole,) = embedder("POST", "/embed", json={"inputs": NEWS}).json()
    (cut,) = embedder("POST", "/embed", json={"inputs": NEWS, "dimensions": 4}).json()
    first = np.asarray(whole[:4])
    assert cut == pytest.approx(first / np.linalg.norm(first), abs=1e-5)


def test_a_prompt_stands_before_the_text(embedder: Ask) -> None:
    (prompted,) = embedder("POST", "/embed", json={"inputs": "the sea", "prompt_name": "query"}).json()
    (written,) = embedder("POST", "/embed", json={"inputs": "news from the sea"}).json()
    assert prompted == pytest.approx(written, abs=1e-6)


def test_what_wishes_the_same_goes_through_the_model_together_and_order_is_kept() -> None:
    asked = []

    def infer(wish: str, texts: list[str]) -> list[str]:
        asked.append(texts)
        return [f"{wish} {text}" for text in texts]

    assert in_groups([("x", "a"), ("y", "b"), ("x", "c")], infer) == ["x a", "y b", "x c"]
    assert asked == [["a", "c"], ["b"]]


def test_more_texts_than_a_batch_takes_come_back_in_order(embedder: Ask) -> None:
    answer = embedder("POST", "/encode", json={"inputs": [NEWS, LATE] * 50, "dimensions": 3})
    rows = np.frombuffer(answer.content, "<f4").reshape(50, 2, 3)
    assert np.allclose(rows, rows[0], atol=1e-6)
    assert not np.allclose(rows[0, 0], rows[0, 1], atol=1e-3)


def test_similarity_is_the_cosine(embedder: Ask) -> None:
    body = {"inputs": {"source_sentence": NEWS, "sentences": [LATE, NEWS]}}
    cosines = embedder("POST", "/similarity", json=body).json()
    one, other = embedder("POST", "/embed", json={"inputs": [NEWS, LATE]}).json()
    assert cosines == pytest.approx([np.dot(one, other), 1], abs=1e-5)
    assert embedder("POST", "/", json=body).json() == pytest.approx(cosines, abs=1e-6)


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("/embed", {"inputs": [101, 102]}, "tokens"),
        ("/embed", {"inputs": [[101, 102]]}, "tokens"),
        ("/embed", {"inputs": []}, "1 to"),
        ("/embed", {"inputs": ["a"] * (TEXTS_MAX + 1)}, "1 to"),
        ("/embed", {"inputs": "a", "prompt_name": "nobody"}, "query"),
        ("/embed", {"inputs": "a", "dimensions": HIDDEN + 1}, str(HIDDEN)),
        ("/embed", {"inputs": LONG}, "102 tokens; this model reads 64"),
        ("/embed", {"inputs": ["a", LONG], "truncate": False}, "inputs[1]"),
        ("/embed", {"inputs": "a", "truncation_direction": "left"}, "truncation_direction"),
        ("/embed", {"inputs": "a", "guided_choice": ["b"]}, "guided_choice"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b", LONG]}}, "inputs.sentences[1]"),
        ("/embed", {}, "inputs"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, "sentences"),
        ("/encode", {"inputs": ["a"], "prompt": "query: "}, "prompt"),
        ("/", {"inputs": {"sentences": ["a"]}}, "source_sentence"),
    ],
)
def test_an_embedder_refuses_what_it_cannot_do_in_words(
    embedder: Ask, path: str, body: dict[str, Any], word: str
) -> None:
    answer = embedder("POST", path, json=body)
    assert (answer.status_code, answer.json()["error_type"]) == (422, "Validation")
    assert word in answer.json()["error"]


def test_rerank_gives_the_best_text_first(reranker: Ask, folders: dict[str, Path]) -> None:
    texts = [LATE, NEWS, "bad news", "the sea"]
    expected = load_reranker(folders["text-ranking"]).score("news", texts)
    body = {"query": "news", "texts": texts, "return_text": True}
    answer = reranker("POST", "/rerank", json=body)
    ranked = answer.json()
    assert [item["index"] for item in ranked] == list(np.argsort(-expected, kind="stable"))
    assert [item["score"] for item in ranked] == pytest.approx(sorted(expected, reverse=True), abs=1e-6)
    assert all(item["text"] == texts[item["index"]] for item in ranked)
    # [CLS] query [SEP] text [SEP]: 4 more than the text's words.
    assert answer.headers["x-tokens"] == str(4 + 5 + 2 + 2 + 4 * 4)
    assert reranker("POST", "/", json=body).json() == ranked


def test_raw_scores_are_the_logits(reranker: Ask) -> None:
    (raw,) = reranker("POST", "/rerank", json={"query": "news", "texts": [NEWS], "raw_scores": True}).json()
    (score,) = reranker("POST", "/rerank", json={"query": "news", "texts": [NEWS]}).json()
    assert score["score"] == pytest.approx(1 / (1 + np.exp(-raw["score"])), abs=1e-6)
    assert "text" not in score


def test_a_text_is_cut_where_that_is_wished_and_counted(embedder: Ask, reranker: Ask) -> None:
    cut = embedder("POST", "/embed", json={"inputs": [LONG, NEWS], "truncate": True})
    assert (cut.headers["x-truncated"], cut.headers["x-tokens"]) == ("1", str(64 + 7))
    assert embedder("POST", "/embed", json={"inputs": NEWS, "truncate": False}).status_code == 200
    # With its prompt a text may be too long that is not without.
    almost = "sea " * 62
    assert embedder("POST", "/embed", json={"inputs": almost}).status_code == 200
    assert embedder("POST", "/embed", json={"inputs": almost, "prompt_name": "query"}).status_code == 422
    asked = {"query": "news", "texts": [NEWS, LONG]}
    assert "texts[1]" in reranker("POST", "/rerank", json=asked).json()["error"]
    assert reranker("POST", "/rerank", json={**asked, "truncate": True}).headers["x-truncated"] == "1"


def test_of_each_text_only_so_many_tokens_count_as_are_wished(reranker: Ask) -> None:
    asked = {"query": "news", "texts": [LONG, "the sea"], "max_tokens_per_text": 2}
    answer = reranker("POST", "/rerank", json=asked)
    assert answer.json()[0]["score"] == pytest.approx(answer.json()[1]["score"], abs=1e-6)
    assert answer.headers["x-tokens"] == str(2 * 6)


@pytest.mark.parametrize("body", [{"query": "a", "texts": []}, {"texts": ["a"]}, {"query": "a", "texts": ["b"] * 1025}])
def test_a_reranker_refuses_a_body_of_another_shape(reranker: Ask, body: dict[str, Any]) -> None:
    assert reranker("POST", "/rerank", json=body).status_code == 422


def test_tokenize_says_where_each_token_stands(engines: dict[str, Ask]) -> None:
    for ask in engines.values():
        (tokens,) = ask("POST", "/tokenize", json={"inputs": "Bad news"}).json()
        assert [(token["text"], token["special"]) for token in tokens] == [
            ("[CLS]", True),
            ("Bad", False),
            ("news", False),
            ("[SEP]", True),
        ]
        assert (tokens[1]["start"], tokens[1]["stop"], tokens[0]["start"]) == (0, 3, None)
    (bare,) = engines["text-ranking"]("POST", "/tokenize", json={"inputs": "Bad", "add_special_tokens": False}).json()
    assert [token["text"] for token in bare] == ["Bad"]


def test_info_tells_the_kind_of_model_and_its_limits(engines: dict[str, Ask]) -> None:
    for task, kind in (
        ("text-classification", "classifier"),
        ("sentence-similarity", "embedding"),
        ("text-ranking", "reranker"),
    ):
        info = engines[task]("GET", "/info").json()
        assert list(info["model_type"]) == [kind]
        assert info["model_id"] == f"alice/{task}@1"
        assert info["max_client_batch_size"] > 0


def test_an_engine_has_the_routes_of_its_own_task_only(engines: dict[str, Ask]) -> None:
    assert engines["text-ranking"]("POST", "/embed", json={"inputs": "a"}).status_code == 404
    assert engines["sentence-similarity"]("POST", "/rerank", json={}).status_code == 404
