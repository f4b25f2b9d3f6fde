"""Links to stored bytes: of the object store, for clients that can reach it, and of ours, which are for sharing."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Request

from api.errors import ApiError, not_found
from api.parts import Parts
from api.settings import ApiSettings, is_loopback
from jobspecs.pieces import StoredFile
from storage.keeping import as_one_object

#: Seconds since its last download for which a file of several pieces stays an object of its own beside them.
COMPOSED_KEPT_S = 24 * 3600.0
#: What a proxy adds: behind one the client's machine is not the one whose address we see.
_OF_PROXIES = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


def direct_endpoint(settings: ApiSettings, request: Request) -> str | None:
    """The object store's address for this client; None where it may be out of its reach.

    Its public address, where one is set. A store on loopback is for clients of the same machine: they name us by a
    name of loopback, through no proxy. A forwarded port looks the same, and is what `redirect=false` is for.
    """
    if settings.s3_public_endpoint is not None:
        return settings.s3_public_endpoint
    store = urlsplit(settings.storage.s3_endpoint).hostname or ""
    here = request.client is not None and is_loopback(request.client.host) and is_loopback(request.url.hostname or "")
    proxied = any(name in request.headers for name in _OF_PROXIES)
    return settings.storage.s3_endpoint if here and is_loopback(store) and not proxied else None


async def link_to_object(platform: Parts, file: StoredFile, endpoint: str | None, expires_s: int) -> str:
    """A link of the object store to the file as one object, which it is put together for first."""
    make = partial(as_one_object, platform.database, platform.objects, file, for_s=COMPOSED_KEPT_S)
    key = await platform.transfers.run(make)
    name = PurePosixPath(file.path).name
    return platform.objects.presigned_get(key, expires_s, filename=name, public_endpoint=endpoint)


@dataclass(frozen=True)
class SharedFile:
    """What a link of ours leads to, and until when: seconds of the epoch."""

    version_id: UUID
    path: str
    expires_at_s: int

    def sealed(self, settings: ApiSettings) -> str:
        """The link's secret part: whoever has it may fetch this file."""
        told = f"{self.version_id} {self.expires_at_s} {self.path}".encode()
        return f"{_text(told)}.{_text(_seal(settings, told))}"


def opened(settings: ApiSettings, secret: str, now_s: float) -> SharedFile:
    """Raises ApiError 404 for what we did not make, 410 once it has expired."""
    body, _, seal = secret.partition(".")
    told = _bytes(body)
    if not hmac.compare_digest(_bytes(seal), _seal(settings, told)):
        raise not_found("such link")
    version_id, expires_at_s, path = told.decode().split(" ", 2)
    if now_s >= int(expires_at_s):
        raise ApiError(410, "This link has expired. Ask whoever gave it to you for a new one.", code="link_expired")
    return SharedFile(UUID(version_id), path, int(expires_at_s))


def _seal(settings: ApiSettings, told: bytes) -> bytes:
    """With the object store's secret, which every API of the platform has and no client."""
    key = hmac.digest(settings.storage.s3_secret_key.encode(), b"eigenwerk shared links", "sha256")
    return hmac.digest(key, told, hashlib.sha256)


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return b""
