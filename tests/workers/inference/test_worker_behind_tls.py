"""Real engines of one deployment on two hosts, 127.0.0.2 and .3, asked by TLS across machines."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from jobspecs.rights import Reach
from storage.tables import DeploymentRow
from tests.workers.inference.conftest import Place, eventually
from tests.workers.inference.models import build_reranker
from workers.local_models.ranking_model import load_reranker

TEXTS = ["good news from the sea", "the train is late"]


def ask(row: DeploymentRow, certificate: str, key: str | None = None) -> httpx.Response:
    trusted = ssl.create_default_context(cadata=certificate)
    trusted.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with httpx.Client(verify=trusted, trust_env=False, timeout=30) as client:
        headers = {"Authorization": f"Bearer {key or row.endpoint_key}"}
        return client.post(f"{row.endpoint}/rerank", json={"query": "news", "texts": TEXTS}, headers=headers)


def test_real_engines_on_two_hosts_answer_by_tls_to_those_who_know_certificate_and_key(
    place: Place, tmp_path: Path
) -> None:
    build_reranker(tmp_path / "model")
    version_id, _, _ = place.register_folder("judge", tmp_path / "model")
    hosts = {f"127.0.0.{number}": f"tls-{number}" for number in (2, 3)}
    for address, host in hosts.items():
        place.start_worker(host, EIGENWERK_HOST_ADDRESS=address)

    def certificates() -> dict[str, str]:
        with place.database.unit_of_work() as work:
            return work.hosts.certificates(list(hosts.values()))

    eventually(lambda: len(certificates()) == len(hosts), "both hosts announce their certificates")
    for share in range(len(hosts)):
        with place.database.unit_of_work() as work:
            work.deployments.want(
                place.owner_id,
                "judge",
                model_version_id=version_id,
                engine="embedded",
                replicas=1,
                memory_bytes=1 << 20,
                share=share,
            )

    def ready() -> list[DeploymentRow]:
        with place.database.unit_of_work() as work:
            rows = work.deployments.find_shares(Reach.of(place.owner_id), "judge")
        return list(rows) if all(row.state == "ready" for row in rows) else []

    rows: list[DeploymentRow] = eventually(ready, "both shares are ready")
    assert {(urlsplit(row.endpoint or "").hostname, row.host) for row in rows} == set(hosts.items())
    trusted = certificates()
    expected = load_reranker(tmp_path / "model").score("news", TEXTS)
    for row, other in zip(rows, reversed(rows), strict=True):
        found = {item["index"]: item["score"] for item in ask(row, trusted[str(row.host)]).json()}
        assert [found[0], found[1]] == pytest.approx(list(expected), abs=1e-6)
        assert ask(row, trusted[str(row.host)], key="another").status_code == 401
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            ask(row, trusted[str(other.host)])
    place.undeploy("judge")
