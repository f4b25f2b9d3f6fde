"""Hub references against a small hub on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.api.conftest import SPEC, Api, RunApi
from tests.loopback import serving

SHA = "0123456789abcdef0123456789abcdef01234567"
FILES = [{"rfilename": "model.safetensors", "size": 91_000_000}, {"rfilename": "config.json", "size": 600}]


class Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answers: dict[str, tuple[int, Any]] = {
            "/api/models/org/good/revision/main": (200, {"id": "org/good", "sha": SHA, "siblings": FILES}),
            "/api/models/org/good/revision/v1.0": (200, {"id": "org/good", "sha": SHA[::-1], "siblings": FILES}),
            "/api/models/org/pickled/revision/main": (
                200,
                {"id": "org/pickled", "sha": SHA, "siblings": [{"rfilename": "pytorch_model.bin"}]},
            ),
            "/api/models/org/quantized/revision/main": (
                200,
                {
                    "id": "org/quantized",
                    "sha": SHA,
                    "siblings": [{"rfilename": f"tiny.{kind}.gguf", "size": 1000} for kind in ("Q4_0", "Q8_0")],
                },
            ),
            "/api/models/org/odd/revision/main": (200, ["no", "object"]),
            "/api/models/org/ill/revision/main": (500, {}),
        }
        status, document = answers.get(path, (404, {"error": "Repository not found"}))
        if path == "/api/models/org/old/revision/main":
            status, document = 307, {}
        body = json.dumps(document).encode()
        self.send_response(status)
        if status == 307:
            self.send_header("Location", "/api/models/org/good/revision/main?blobs=true")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def hub_url() -> Iterator[str]:
    with serving(Hub) as url:
        yield url


@pytest.fixture
def online(run_api: RunApi, hub_url: str) -> Iterator[Api]:
    with run_api(hub_endpoint=hub_url, hub_offline=False) as api:
        api.push()
        yield api


def test_a_hub_reference_is_frozen_to_the_commit_that_it_means(online: Api) -> None:
    for reference, revision in (
        ("hub:org/good", SHA),
        ("hub:org/good@v1.0", SHA[::-1]),
        ("hub:org/old", SHA),
    ):
        job = online.submit(model=reference)
        assert job["inputs"]["model"] == f"hub:org/good@{revision}"
        assert job["memory_bytes"] > 91_000_000 * 4


def test_what_the_hub_lacks_or_what_cannot_be_read_is_refused(online: Api) -> None:
    for reference, words in (("hub:org/absent", "no such repository"), ("hub:org/pickled", "no safetensors")):
        answer = online.client.post("/v1/jobs", json={**SPEC, "model": reference})
        assert answer.status_code == 422
        assert words in answer.json()["error"]["message"]


def test_an_import_takes_one_gguf_of_a_repository_and_other_jobs_take_none(online: Api) -> None:
    spec = {"kind": "import-model", "name": "tiny", "model": "hub:org/quantized"}
    chosen = online.client.post("/v1/jobs", json={**spec, "file": "tiny.Q8_0.gguf"})
    assert (chosen.status_code, chosen.json()["inputs"]["model"]) == (201, f"hub:org/quantized@{SHA}")
    for body, words in (
        (spec, "several GGUF files. Name one of: tiny.Q4_0.gguf, tiny.Q8_0.gguf"),
        ({**spec, "file": "absent.gguf"}, "no absent.gguf"),
        ({**SPEC, "model": "hub:org/quantized"}, "import-model"),
    ):
        answer = online.client.post("/v1/jobs", json=body)
        assert answer.status_code == 422
        assert words in answer.json()["error"]["message"]


def test_a_hub_that_answers_badly_or_not_at_all_is_503_and_says_how_to_import(run_api: RunApi, online: Api) -> None:
    for reference in ("hub:org/odd", "hub:org/ill"):
        answer = online.client.post("/v1/jobs", json={**SPEC, "model": reference})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "hub_unavailable")
    with run_api(hub_endpoint="http://127.0.0.1:1", hub_offline=False) as cut_off:
        answer = cut_off.client.post("/v1/jobs", json={**SPEC, "model": "hub:org/good"})
    assert answer.status_code == 503
    assert "eigenwerk models import" in answer.json()["error"]["message"]


def test_an_earlier_job_is_found_by_its_key_though_the_hub_is_away(run_api: RunApi, online: Api) -> None:
    headers = {"Idempotency-Key": "once"}
    spec = {**SPEC, "model": "hub:org/good"}
    first = online.client.post("/v1/jobs", json=spec, headers=headers)
    token = online.client.post("/v1/users/me/tokens", json={"scopes": ["write"]}).json()["token"]
    with run_api(hub_endpoint="http://127.0.0.1:1", hub_offline=False) as cut_off, cut_off.as_user(token) as client:
        again = client.post("/v1/jobs", json=spec, headers=headers)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
