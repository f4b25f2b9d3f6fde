"""The body of a commit: lines of JSON, each an operation. Small files come in it, of large ones their sha256."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api.errors import ApiError
from jobspecs.strict_json import UnacceptableJson, parse_json

BODY_BYTES_MAX = 100_000_000
_LINES_MAX = 25_000
#: Of one line: a small file in base64.
_LINE_BYTES_MAX = 2_000_000
#: Each names a path.
_OPERATIONS = frozenset({"file", "lfsFile", "deletedFile", "deletedFolder"})


@dataclass(frozen=True)
class LargeFile:
    """Content that was sent before, by its sum."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Commit:
    """What a commit does: files by path, and paths of files and folders that go."""

    small: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, LargeFile] = field(default_factory=dict)
    deleted_files: set[str] = field(default_factory=set)
    deleted_folders: set[str] = field(default_factory=set)
    #: The commit that it must come after, if told; clients may give its first characters.
    parent: str = ""

    @property
    def written(self) -> set[str]:
        return {*self.small, *self.large}

    def deletes(self, path: str) -> bool:
        return path in self.deleted_files or any(
            path.startswith(f"{folder.strip('/')}/") for folder in self.deleted_folders
        )


def read_commit(body: Path) -> Commit:
    """Raises ApiError 400 for what is no commit."""
    small: dict[str, bytes] = {}
    large: dict[str, LargeFile] = {}
    files: set[str] = set()
    folders: set[str] = set()
    parent = ""
    with body.open("rb") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(_LINE_BYTES_MAX + 1), b""), start=1):
            if number > _LINES_MAX or len(line) > _LINE_BYTES_MAX:
                raise _refused(number, "the commit has too many lines, or this one is too long")
            if not line.strip():
                continue
            key, value = _operation(number, line)
            if key == "header":
                parent = str(value.get("parentCommit") or "")
                continue
            if key not in _OPERATIONS:
                raise _refused(number, f"{key[:50]!r} is no operation that is known here")
            path = _text(number, value, "path")
            if key == "file":
                small[path] = _content(number, value)
            elif key == "lfsFile":
                large[path] = _large(number, value)
            elif key == "deletedFile":
                files.add(path)
            else:
                folders.add(path)
    return Commit(small, large, files, folders, parent)


def _operation(number: int, line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        operation = parse_json(line)
    except UnacceptableJson as error:
        raise _refused(number, str(error)) from error
    value = operation.get("value") if isinstance(operation, dict) else None
    if not isinstance(value, dict):
        raise _refused(number, "it is no object with key and value")
    return str(operation.get("key")), value


def _content(number: int, value: dict[str, Any]) -> bytes:
    try:
        if value.get("encoding") != "base64":
            return _text(number, value, "content").encode()
        return base64.b64decode(_text(number, value, "content"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise _refused(number, "the content is not what its encoding says") from error


def _large(number: int, value: dict[str, Any]) -> LargeFile:
    sha256, size = _text(number, value, "oid").removeprefix("sha256:"), value.get("size")
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef") or type(size) is not int or size < 0:
        raise _refused(number, "the large file's oid or size can't be one")
    return LargeFile(sha256, size)


def _text(number: int, value: dict[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str):
        raise _refused(number, f"{name} is missing")
    return text


def _refused(number: int, why: str) -> ApiError:
    return ApiError(400, f"Line {number} of the commit: {why}.", code="invalid_commit")
