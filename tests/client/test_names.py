"""What belongs to an owner is named `name` or `owner/name`."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from eigenwerk import Client, EigenwerkError
from tests.client.documents import dataset, deployment


def test_things_are_asked_for_by_the_name_that_they_are_given(tmp_path: Path) -> None:
    path = tmp_path / "headlines.csv"
    path.write_bytes(b"content")
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        if request.url.path.endswith("/preview"):
            return httpx.Response(200, json={"columns": [], "rows": []})
        if request.method == "DELETE":
            return httpx.Response(200, json={"deleted": ["ada/headlines@1"], "bytes": 7})
        return httpx.Response(200, json=dataset() if "/datasets/" in request.url.path else deployment("ready"))

    with Client("http://platform.test", "ew_secret", http=httpx.MockTransport(handler)) as client:
        client.push_dataset(path, name="ada/headlines")
        client.preview_dataset("ada/headlines@1")
        client.delete_dataset("ada/headlines@1")
        client.deploy("ada/quality")
        client.await_deployment("ada/quality")
        client.undeploy("ada/quality")
        for name in ("../jobs", "a/b/c", "a b", "ada/quality@2"):
            with pytest.raises(EigenwerkError, match="is not a name"):
                client.undeploy(name)
    assert asked == [
        "PUT /v1/datasets/ada/headlines",
        "GET /v1/datasets/ada/headlines/versions/1/preview",
        "DELETE /v1/datasets/ada/headlines/versions/1",
        "PUT /v1/deployments/ada/quality",
        "GET /v1/deployments/ada/quality",
        "DELETE /v1/deployments/ada/quality",
    ], "whose a thing is, is for the platform to say"
