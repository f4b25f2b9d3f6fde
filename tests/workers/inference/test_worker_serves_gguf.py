"""A GGUF file as it was registered, and an engine of somebody else's, on the real inference worker."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobspecs.engines import ExternalEngine
from jobspecs.manifest import Manifest, describe_files, write_manifest
from tests.loopback import serving
from tests.workers.inference.conftest import Place, eventually
from tests.workers.local_models.gguf_file import write_tiny_gguf

MEMORY_BYTES = 1 << 30


class Elsewhere(BaseHTTPRequestHandler):
    """Says whether it is well."""

    well = True

    def do_GET(self) -> None:
        known = self.path == "/well" and self.headers["Authorization"] == "Bearer their-key"
        self.send_response(200 if type(self).well and known else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    with serving(Elsewhere) as url:
        yield url


def want_external(place: Place, name: str, url: str) -> None:
    external = ExternalEngine(url=url, model="theirs", key="their-key", health_path="/well")
    with place.database.unit_of_work() as work:
        work.deployments.want(
            place.owner_id,
            name,
            model_version_id=None,
            engine="external",
            replicas=1,
            memory_bytes=0,
            external=external.model_dump(mode="json"),
            task=external.task,
        )


def test_a_gguf_and_an_engine_elsewhere_are_served_beside_each_other(
    place: Place, tmp_path: Path, elsewhere: str
) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    write_manifest(tmp_path, Manifest(artifact="model", files=describe_files(tmp_path)))
    version_id, _, _ = place.register_folder("tiny", tmp_path)
    place.environment |= {"EIGENWERK_EXTERNAL_ENGINES": elsewhere, "EIGENWERK_WARM_ENGINE": "0"}
    place.start_worker("serving")
    place.deploy("tiny", version_id, engine="llamacpp", memory_bytes=MEMORY_BYTES)
    want_external(place, "far", elsewhere)
    want_external(place, "forbidden", "http://127.0.0.1:9")
    row = place.in_state("tiny", "ready")
    answer = httpx.post(
        f"{row.endpoint}/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "in the"}], "max_tokens": 4},
        headers={"Authorization": f"Bearer {row.endpoint_key}"},
        timeout=60,
    )
    assert answer.json()["usage"]["completion_tokens"] > 0
    far = place.in_state("far", "ready")
    assert (far.endpoint, far.endpoint_key, far.endpoint_model) == (elsewhere, "their-key", "theirs")
    forbidden = place.in_state("forbidden", "failed")
    assert "EIGENWERK_EXTERNAL_ENGINES" in str(forbidden.message)

    def host_engines() -> dict[str, Any]:
        with place.database.unit_of_work() as work:
            return next(iter(work.hosts.known())).engines

    assert {"embedded", "llamacpp", "external"} <= eventually(host_engines, "the host tells its engines").keys()
