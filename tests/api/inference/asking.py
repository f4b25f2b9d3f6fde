"""What the tests of the small models' routes ask, and of whom."""

from __future__ import annotations

from typing import Any

import httpx

from tests.api.conftest import Api

NEWS = "good news from the sea"
LATE = "the train is late"
LONG = "the sea " * 50
#: Deployment -> task.
DEPLOYED = {"sorter": "text-classification", "finder": "sentence-similarity", "judge": "text-ranking"}


def post(api: Api, path: str, **body: Any) -> httpx.Response:
    return api.client.post(path, json=body)


def token_of(api: Api) -> str:
    return api.client.headers["Authorization"].removeprefix("Bearer ")
