"""What the object store gives back and what can go wrong with it, in words for people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

#: Longest key that S3 allows, in bytes.
KEY_BYTES_MAX = 1024
_PRINTABLE_ASCII = re.compile(r"[ -~]+")


class ObjectStoreError(Exception):
    """Base of all errors of the object store."""


class ObjectStoreUnavailable(ObjectStoreError):
    """The server can't be reached or answers with 5xx, after all attempts. The same call may work later.

    `status` is the HTTP status, 0 without an answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        self.status = status
        super().__init__(message)


class ObjectStoreFull(ObjectStoreUnavailable):
    """The server has no room, or the bucket's quota is used up. The same call works once there is room again."""


class ObjectStoreRefused(ObjectStoreError):
    """The server understood and said no (403, no such bucket, ...). Trying again won't help. `code` is the S3 code."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class ObjectNotFound(ObjectStoreError):
    """There is no object under this key."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"There is no object {key!r} in the object store.")


class ObjectCorrupt(ObjectStoreError):
    """The bytes are not the bytes that were promised: wrong sha256 or wrong length."""

    def __init__(self, key: str, expected: str, found: str) -> None:
        self.key = key
        self.expected = expected
        self.found = found
        super().__init__(f"The object {key!r} is damaged: expected {expected}, found {found}. It was not used.")


class ObjectUnreadable(ObjectCorrupt):
    """The server is up, knows the object and still can't read it: its own checksum failed, or a disk is missing."""

    def __init__(self, key: str, status: int) -> None:
        super().__init__(
            key, "readable bytes", f"the server's error {status} while its bucket and the object's entry are fine"
        )


class ObjectTooLarge(ObjectStoreError):
    """An object is larger than the caller is willing to hold in memory."""


class TransferStopped(ObjectStoreError):
    """The caller's `should_stop` said so; nothing was left behind."""


@dataclass(frozen=True)
class StoredObject:
    """An object that was sent: `sha256` (hex) is of exactly the bytes that went out."""

    key: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ObjectInfo:
    """What the server knows of an object."""

    key: str
    bytes: int
    etag: str
    modified_at: datetime


@dataclass(frozen=True)
class AbandonedUpload:
    """A multipart upload that was begun and neither completed nor aborted; its parts use up space."""

    key: str
    upload_id: str
    started_at: datetime


@dataclass(frozen=True)
class WantedObject:
    """One object of a tree to fetch: where it goes (relative path), and what a manifest says of it."""

    path: str
    bytes: int
    sha256: str


def checked_key(key: str) -> str:
    """Returns `key` if it is one that the server may have built, else raises ValueError.

    Printable ASCII, no leading slash, no empty, `.` or `..` segment, no backslash, at most 1,024 bytes.
    """
    if not _PRINTABLE_ASCII.fullmatch(key) or "\\" in key or len(key) > KEY_BYTES_MAX:
        raise ValueError(
            f"{key!r} can't be an object key: use 1 to {KEY_BYTES_MAX} printable ASCII characters, no '\\'."
        )
    if any(segment in ("", ".", "..") for segment in key.split("/")):
        raise ValueError(f"{key!r} can't be an object key: no leading, trailing or double slash, no '.' or '..'.")
    return key
