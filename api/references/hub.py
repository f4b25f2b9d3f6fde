"""`hub:org/name@revision` -> the commit it means now. One HTTPS request, outside any transaction."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from api.errors import unavailable
from api.settings import ApiSettings
from jobspecs.frozen import FrozenHubModel
from jobspecs.kinds.base import SpecBase
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import Reference
from scheduling.estimates.estimating import GGUF_EXPANSION

log = logging.getLogger(__name__)

_IMPORT_INSTEAD = (
    "Or fetch the model on a machine that has access and import it: eigenwerk models import DIR --name NAME, "
    "then write model: NAME."
)
_LICENSE_CHARS_MAX = 200
#: Renamed repositories answer with a redirect.
_REDIRECTS_MAX = 3
#: GGUF files that an error names; repositories hold dozens.
_NAMED_FILES_MAX = 30


@dataclass(frozen=True)
class HubModel:
    frozen: FrozenHubModel
    #: Bytes of the files with its weights; None when the hub does not tell.
    weights_bytes: int | None


@dataclass(frozen=True)
class GgufChoice:
    """Whether a GGUF will do, and which of several."""

    possible: bool = False
    file: str | None = None

    @classmethod
    def of(cls, spec: SpecBase) -> GgufChoice:
        return cls(spec.READS_GGUF, getattr(spec, "file", None) if spec.READS_GGUF else None)


_SAFETENSORS_ONLY = GgufChoice()


def resolve(
    hub: httpx.Client,
    settings: ApiSettings,
    reference: Reference,
    choice: GgufChoice = _SAFETENSORS_ONLY,
    token: str | None = None,
) -> HubModel:
    """What the hub says of it, to the user whose `token` it is; without one, to everybody or the platform.

    Raises InvalidInput when there is no such revision or it can't be used, ApiError 503 when the hub is away."""
    if settings.hub_offline:
        raise _refused(reference, "this platform is set to work without a model hub.", _IMPORT_INSTEAD)
    document = _fetch(hub, settings, reference, token)
    revision, repository = document.get("sha"), document.get("id")
    if not isinstance(revision, str) or not isinstance(repository, str):
        raise unavailable(f"The model hub gave no commit for {reference}. {_IMPORT_INSTEAD}", "hub_unavailable")
    files = [item for item in document.get("siblings") or [] if isinstance(item, dict)]
    weights = [item for item in files if str(item.get("rfilename", "")).endswith(".safetensors")]
    gguf = _gguf(reference, files, choice) if choice.file or (choice.possible and not weights) else None
    if gguf is not None:
        weights = [item for item in files if item.get("rfilename") == gguf]
    if not weights:
        raise _refused(
            reference,
            "the repository has no safetensors weights; other formats can run foreign code and are not read.",
            "Choose a revision with safetensors, or convert the weights and import the model. A GGUF is converted by a "
            "job of the kind import-model.",
        )
    sizes = [item.get("size") for item in weights]
    known = [size for size in sizes if isinstance(size, int)]
    return HubModel(
        frozen=FrozenHubModel(repository=repository, revision=revision, gguf=gguf, license=_license(document)),
        weights_bytes=sum(known) * (GGUF_EXPANSION if gguf else 1) if len(known) == len(sizes) else None,
    )


def _license(document: dict[str, Any]) -> str | None:
    """What the repository's card names, where it names one."""
    card = document.get("cardData")
    named = card.get("license") if isinstance(card, dict) else None
    return named[:_LICENSE_CHARS_MAX] if isinstance(named, str) and named.isprintable() else None


def _gguf(reference: Reference, files: list[dict[str, Any]], choice: GgufChoice) -> str | None:
    """The named GGUF of the repository, or its only one; None when it has none and none is named."""
    names = [str(item.get("rfilename", "")) for item in files]
    found = sorted(name for name in names if name.endswith(".gguf") and "/" not in name)
    if choice.file in found or (len(found) < 2 and choice.file is None):
        return choice.file or (found[0] if found else None)
    what = f"the repository has no {choice.file}." if choice.file else "the repository has several GGUF files."
    known = ", ".join(found[:_NAMED_FILES_MAX]) or "none"
    raise InvalidInput([Problem(field="file", message=f"{reference}: {what}", remedy=f"Name one of: {known}.")])


def _fetch(hub: httpx.Client, settings: ApiSettings, reference: Reference, token: str | None) -> dict[str, Any]:
    revision = quote(reference.alias or "main", safe="")
    url = f"{settings.hub_endpoint}/api/models/{reference.owner}/{reference.name}/revision/{revision}?blobs=true"
    headers = _headers(settings, token)
    try:
        response = _get(hub, url, headers)
    except httpx.HTTPError as error:
        log.warning("the model hub does not answer: %s", error)
        raise unavailable(
            f"The model hub {settings.hub_endpoint} does not answer, so {reference} can't be resolved. "
            f"Try again later. {_IMPORT_INSTEAD}",
            "hub_unavailable",
        ) from error
    if response.status_code in (401, 403, 404):
        raise _refused(
            reference,
            f"the model hub has no such repository or revision that it shows us ({response.status_code}).",
            "Check the spelling. Private and gated models need your own token of the hub: eigenwerk tokens hub set",
        )
    try:
        document = response.json() if response.is_success else None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise unavailable(
            f"The model hub answered {response.status_code} for {reference}. Try again later. {_IMPORT_INSTEAD}",
            "hub_unavailable",
        )
    return document


def fetch_file(
    hub: httpx.Client, settings: ApiSettings, model: FrozenHubModel, path: str, token: str | None = None
) -> bytes | None:
    """A small text file of a repository at its commit; None when the hub does not give it out itself.

    Raises httpx.HTTPError when the hub does not answer.
    """
    headers = _headers(settings, token)
    response = _get(hub, f"{settings.hub_endpoint}/{model.repository}/resolve/{model.revision}/{path}", headers)
    return response.content if response.is_success else None


def _headers(settings: ApiSettings, token: str | None) -> dict[str, str]:
    token = token or settings.hub_token
    return {"Authorization": f"Bearer {token}"} if token else {}


def _get(hub: httpx.Client, url: str, headers: dict[str, str]) -> httpx.Response:
    """Follows redirects within the hub only: the token goes nowhere else."""
    response = hub.get(url, headers=headers)
    for _ in range(_REDIRECTS_MAX):
        target = response.next_request
        if target is None or target.url.netloc != httpx.URL(url).netloc or target.url.scheme != urlsplit(url).scheme:
            break
        response = hub.get(target.url, headers=headers)
    return response


def _refused(reference: Reference, message: str, remedy: str) -> InvalidInput:
    return InvalidInput([Problem(field="model", message=f"{reference}: {message}", remedy=remedy)])
