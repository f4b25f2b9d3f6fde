"""Pushing as clients do it, by hand: what no client would send can be sent so."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from typing import Any

import httpx
import lz4.frame
from huggingface_hub import HfApi

from tests.api.conftest import Api, safetensors, sha256

CONFIG = b'{"model_type": "bert", "architectures": ["BertModel"]}'


def hub(api: Api, token: str | None = None) -> HfApi:
    token = token or api.client.headers["Authorization"].removeprefix("Bearer ")
    return HfApi(endpoint=f"{api.url}/hf", token=token)


def commit(
    client: httpx.Client,
    repository: str,
    small: Mapping[str, bytes] | None = None,
    large: Mapping[str, bytes] | None = None,
    *,
    kind: str = "models",
    parent: str | None = None,
) -> httpx.Response:
    """A commit's answer. Of `large` files only the sums are sent."""
    operations: list[dict[str, Any]] = [{"key": "header", "value": {"summary": "x", "parentCommit": parent}}]
    for path, content in (small or {}).items():
        text = base64.b64encode(content).decode()
        operations.append({"key": "file", "value": {"path": path, "content": text, "encoding": "base64"}})
    for path, content in (large or {}).items():
        value = {"path": path, "algo": "sha256", "oid": sha256(content), "size": len(content)}
        operations.append({"key": "lfsFile", "value": value})
    body = "\n".join(json.dumps(operation) for operation in operations)
    return client.post(f"/hf/api/{kind}/{repository}/commit/main", content=body.encode())


def batch(client: httpx.Client, repository: str, *contents: bytes) -> Any:
    """What a client is told of these contents, in their order."""
    objects = [{"oid": sha256(content), "size": len(content)} for content in contents]
    answer = client.post(f"/hf/{repository}.git/info/lfs/objects/batch", json={"objects": objects})
    assert answer.status_code == 200, answer.text
    return answer.json()["objects"]


def upload(client: httpx.Client, repository: str, content: bytes) -> None:
    """Sends content in one body, where it is wanted."""
    (told,) = batch(client, repository, content)
    if "actions" in told:
        assert httpx.put(told["actions"]["upload"]["href"], content=content, trust_env=False).status_code == 200


def made(api: Api, name: str, kind: str = "model") -> str:
    """An empty repository of the API's user."""
    answer = api.client.post("/hf/api/repos/create", json={"name": name, "type": kind})
    assert answer.status_code == 200, answer.text
    return f"{api.user}/{name}"


def versions(api: Api, name: str) -> list[int]:
    """The numbers of the model's versions, newest first, as the registry has them."""
    answer = api.client.get(f"/v1/registry/models/{api.user}/{name}")
    return [] if answer.status_code == 404 else [version["version"] for version in answer.json()["versions"]]


def weights(seed: int) -> bytes:
    """Small weights, others for each seed."""
    content = safetensors(64 + seed)
    return content


def xorb(*chunks: bytes, how: int = 0) -> bytes:
    """Chunks as clients send them: as they are (0), or packed (1)."""
    stored = [lz4.frame.compress(chunk) if how else chunk for chunk in chunks]
    return b"".join(
        b"\0" + len(body).to_bytes(3, "little") + bytes([how]) + len(chunk).to_bytes(3, "little") + body
        for chunk, body in zip(chunks, stored, strict=True)
    )


def shard(content: bytes, terms: list[tuple[str, int, int]], *, sum_of: bytes | None = None) -> bytes:
    """One file of these terms: name of a xorb, first chunk, and the one behind the last."""
    entries = [struct.pack("<32sIIQ", bytes(32), 1 << 30, len(terms), 0)]
    for name, first, last in terms:
        entries.append(raw(name) + struct.pack("<IIII", 0, len(content), first, last))
    entries.append(raw(sha256(sum_of if sum_of is not None else content)) + bytes(16))
    return bytes(48) + b"".join(entries) + b"\xff" * 32 + bytes(16)


def raw(name: str) -> bytes:
    """A sum as bytes, from how clients write it."""
    return struct.pack("<4Q", *(int(name[start : start + 16], 16) for start in range(0, 64, 16)))
