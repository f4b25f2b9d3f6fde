"""Fetches a model from a model hub at one commit. Only safetensors, JSON and tokenizer files; never code or pickles."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from httpx import TransportError
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.file_download import repo_folder_name

from jobspecs.frozen import FrozenHubModel
from jobspecs.lifecycle import Reason
from jobspecs.manifest import ManifestFile
from storage.database import UnitOfWork
from storage.hub_tokens import hub_token
from storage.secret_box import SecretBox
from workers.run.context import RunFailed

#: What a model may consist of. `.txt` and `.model` are vocabularies (WordPiece, SentencePiece).
ALLOWED_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
#: Exports for other engines that some repositories carry along.
IGNORED_FILES = ("onnx/*", "openvino/*", "coreml/*", "tf*/*", "flax*/*")
#: Set to 1 to let every user's jobs read what the worker's HF_TOKEN can read: private and gated models too.
ACCESS_FOR_ALL = "EIGENWERK_HUB_TOKEN_FOR_ALL"


#: What the hub keeps outside of its git is named by its sha256.
_NAMED_BY_SUM = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubAccess:
    """A user's own token of the hub, used for what is that user's alone."""

    owner_id: UUID
    token: str = field(repr=False)


def hub_access(work: UnitOfWork, box: SecretBox | None, owner_id: UUID) -> HubAccess | None:
    """By the owner's own token; None where there is none, or where it can't be opened."""
    token = hub_token(work, box, owner_id)
    return HubAccess(owner_id, token) if token is not None else None


class HubUnavailable(Exception):
    """The hub does not answer. The same call may work later."""


def fetch_snapshot(
    model: FrozenHubModel, cache: Path, *, endpoint: str | None = None, token: str | None = None
) -> Path:
    """The folder with the repository's allowed files at the commit. HF_ENDPOINT of the worker applies.

    `token`: of the user whose job it is. The worker's HF_TOKEN is used only where EIGENWERK_HUB_TOKEN_FOR_ALL is 1: it
    is not the user's who asks.
    Raises HubUnavailable; RunFailed when the repository can't be read or holds no safetensors weights.
    """
    try:
        folder = Path(
            snapshot_download(
                model.repository,
                revision=model.revision,
                cache_dir=cache,
                endpoint=endpoint,
                token=token or _own_token(),
                allow_patterns=[model.gguf] if model.gguf else list(ALLOWED_FILES),
                ignore_patterns=list(IGNORED_FILES),
            )
        )
    except (LocalEntryNotFoundError, TransportError) as error:
        raise HubUnavailable(f"The model hub does not answer: {error}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status >= 500 or status in (0, 429):
            raise HubUnavailable(f"The model hub does not answer: {error}") from error
        raise RunFailed(
            Reason.invalid_model, f"The hub refuses {model.repository} at {model.revision}: {error}"
        ) from error
    if model.gguf is not None:
        if not (folder / model.gguf).is_file():
            raise RunFailed(Reason.invalid_model, f"{model.repository} at {model.revision} has no file {model.gguf}.")
    elif not any(folder.glob("*.safetensors")):
        raise RunFailed(
            Reason.invalid_model,
            f"{model.repository} at {model.revision} has no safetensors weights; other formats can run code.",
        )
    return folder


def sums_of(model: FrozenHubModel, *, endpoint: str | None = None, token: str | None = None) -> list[ManifestFile]:
    """What the hub names by its sha256 of a repository at a commit: large files. None where it does not tell."""
    try:
        told = HfApi(endpoint=endpoint).model_info(
            model.repository, revision=model.revision, files_metadata=True, token=token or _own_token()
        )
    except (HfHubHTTPError, TransportError):
        return []  # the download says it better
    return [
        ManifestFile(path=file.rfilename, bytes=file.size, sha256=file.lfs.sha256)
        for file in told.siblings or []
        if file.lfs is not None and file.size is not None and _NAMED_BY_SUM.fullmatch(file.lfs.sha256)
    ]


def blob_path(model: FrozenHubModel, cache: Path, sha256: str) -> Path:
    """Where the hub's client looks for content before it fetches it."""
    return Path(cache, repo_folder_name(repo_id=model.repository, repo_type="model"), "blobs", sha256)


def _own_token() -> bool | None:
    """What the hub's client takes for the worker's HF_TOKEN, or for no token at all."""
    return None if os.environ.get(ACCESS_FOR_ALL) == "1" else False


def check_arrived(path: Path, sha256: str) -> None:
    """Raises HubUnavailable when a large file of a snapshot isn't what the hub promised: the next try fetches it anew.

    The hub's client compares sizes alone.
    """
    blob = path.resolve()
    if _NAMED_BY_SUM.fullmatch(blob.name) and blob.name != sha256:
        blob.unlink()
        path.unlink()
        raise HubUnavailable(f"{path.name} arrived from the hub with sha256 {sha256[:12]}…, not {blob.name[:12]}….")
