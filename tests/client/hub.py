"""A model hub on loopback that an unmodified huggingface_hub takes for one: data sets only, read only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from tests.loopback import serving

MAIN = "main"
CONVERTED = "refs/convert/parquet"
#: Files that a hub keeps beside git, by the sum of their content.
_LARGE = (".parquet", ".gz")


@dataclass
class Hub:
    """Repositories: name -> revision -> path -> content. What it is asked is kept."""

    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    #: Answers with a file that end after so many bytes, one by one.
    cuts: list[int] = field(default_factory=list)
    #: Path -> what arrives in its place.
    damaged: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    url: str = ""

    def add(self, name: str, files: Mapping[str, bytes | str], revision: str = MAIN) -> str:
        """Gives the commit."""
        content = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
        self.repositories.setdefault(name, {})[revision] = content
        return commit_of(content)

    def found(self, name: str, revision: str) -> dict[str, bytes] | None:
        revisions = self.repositories[name]
        return revisions.get(revision) or next(
            (files for files in revisions.values() if commit_of(files) == revision), None
        )

    @property
    def fetched(self) -> list[str]:
        """Paths whose content was asked for."""
        return [
            path.partition("/resolve/")[2].partition("/")[2]
            for path in self.asked
            if path.startswith("GET ") and "/resolve/" in path
        ]


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    with serving(type("Handler", (_Handler,), {"hub": hub})) as hub.url:
        yield hub


def commit_of(files: Mapping[str, bytes]) -> str:
    total = hashlib.sha1(usedforsecurity=False)
    for path, content in sorted(files.items()):
        total.update(f"{path} {_blob(content)}\n".encode())
    return total.hexdigest()


def _blob(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append(f"{self.command} {unquote(path)}")
        self.hub.tokens.add(self.headers.get("Authorization"))
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "datasets"]
        if not api and parts[:1] != ["datasets"]:
            return self._refuse(404, "RepoNotFound")
        name = "/".join(parts[2:4] if api else parts[1:3])
        rest = parts[4:] if api else parts[3:]
        if name not in self.hub.repositories:
            return self._refuse(401 if self.headers.get("Authorization") is None else 404, "RepoNotFound")
        if name in self.hub.gated and not api:
            return self._refuse(403, "GatedRepo")
        revision = unquote(rest[1]) if len(rest) > 1 else MAIN
        files = self.hub.found(name, revision)
        if files is None:
            return self._refuse(404, "RevisionNotFound")
        if not api:
            return self._send_file(files, unquote("/".join(rest[2:])))
        if rest[:1] == ["tree"]:
            return self._send_json([_entry(path, content) for path, content in files.items()])
        document = {"id": name, "sha": commit_of(files), "gated": name in self.hub.gated, "tags": [], "siblings": []}
        return self._send_json(document)

    def _send_file(self, files: Mapping[str, bytes], path: str) -> None:
        content = files.get(path)
        if content is None:
            return self._refuse(404, "EntryNotFound")
        etag = hashlib.sha256(content).hexdigest() if path.endswith(_LARGE) else _blob(content)
        content = self.hub.damaged.get(path, content)
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit_of(files), "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, content[start:], headers)

    def _send_json(self, document: Any) -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, json.dumps({"error": code}).encode(), {"X-Error-Code": code})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if "ETag" in headers and self.hub.cuts:
            body = body[: self.hub.cuts.pop(0)]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}
    if path.endswith(_LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 100}
    return entry
