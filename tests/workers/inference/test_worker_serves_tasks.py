"""An embedder and a reranker on the real inference worker: deployed, fetched, checked, served, and asked."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest

from storage.tables import DeploymentRow
from tests.workers.inference.conftest import Place, Worker
from tests.workers.inference.models import HIDDEN, build_embedder, build_reranker
from workers.local_models.embedding_model import load_embedder
from workers.local_models.ranking_model import load_reranker

TEXTS = ["good news from the sea", "the train is late"]


def ask(row: DeploymentRow, path: str, **body: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {row.endpoint_key}"}
    return httpx.post(f"{row.endpoint}{path}", json=body, headers=headers, timeout=30)


def test_a_deployed_embedder_embeds_over_http(place: Place, worker: Worker, tmp_path: Path) -> None:
    build_embedder(tmp_path / "model")
    version_id, _, _ = place.register_folder("finder", tmp_path / "model")
    place.deploy("finder", version_id)
    row = place.in_state("finder", "ready")
    answer = ask(row, "/encode", inputs=TEXTS)
    rows = np.frombuffer(answer.content, "<f4").reshape(2, HIDDEN)
    assert np.allclose(rows, load_embedder(tmp_path / "model").encode(TEXTS), atol=1e-6)
    assert answer.headers["x-model"] == "alice/finder@1"
    place.undeploy("finder")


def test_a_deployed_reranker_ranks_over_http(place: Place, worker: Worker, tmp_path: Path) -> None:
    build_reranker(tmp_path / "model")
    version_id, _, _ = place.register_folder("judge", tmp_path / "model")
    place.deploy("judge", version_id)
    row = place.in_state("judge", "ready")
    scores = load_reranker(tmp_path / "model").score("news", TEXTS)
    ranked = ask(row, "/rerank", query="news", texts=TEXTS).json()
    assert [item["index"] for item in ranked] == list(np.argsort(-scores))
    assert ranked[0]["score"] == pytest.approx(scores.max(), abs=1e-6)
    place.undeploy("judge")
