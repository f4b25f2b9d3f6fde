"""huggingface_hub, asked for when it is needed, and what it raises in words for people.

HF_ENDPOINT, HF_TOKEN (or what `hf auth login` left), HF_HUB_OFFLINE and HF_HOME count as everywhere.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eigenwerk.errors import EigenwerkError, TransferCorrupt
from eigenwerk.files.transfers import Progress, ignore_progress
from eigenwerk.hub.hub_dataset import HubFile
from jobspecs.manifest import sha256_of

_LIBRARY = "huggingface_hub"
_CHUNK_BYTES = 1 << 20
_ERROR_CHARS_MAX = 300


class NoSuchRevision(EigenwerkError):
    """The repository is there, and has no such branch, tag or commit."""


@dataclass(frozen=True)
class Repository:
    """A data set's repository at a commit."""

    name: str
    commit: str
    #: By path: shards are in their order.
    files: tuple[HubFile, ...]

    def file(self, path: str) -> HubFile | None:
        return next((file for file in self.files if file.path == path), None)


def check_installed(*packages: str) -> None:
    """Raises EigenwerkError unless they are there: the client alone comes without them."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise EigenwerkError(f"This needs {' and '.join(missing)}. Install it: pip install 'eigenwerk[hub]'")


def open_repository(name: str, revision: str | None) -> Repository:
    """Asks the hub for the commit that the revision means now, and for its files. Raises EigenwerkError."""
    check_installed(_LIBRARY)
    hub: Any = importlib.import_module(_LIBRARY)
    api = hub.HfApi(endpoint=_endpoint())
    with _in_words(name, revision):
        info = api.dataset_info(name, revision=revision)
        tree = api.list_repo_tree(info.id, repo_type="dataset", revision=info.sha, recursive=True)
        files = tuple(
            HubFile(item.path, item.size, item.blob_id, item.lfs.sha256 if item.lfs else None)
            for item in tree
            if isinstance(item, hub.hf_api.RepoFile)
        )
    return Repository(info.id, info.sha, tuple(sorted(files, key=lambda file: file.path)))


def fetch(repository: str, commit: str, file: HubFile, progress: Progress = ignore_progress) -> Path:
    """The file in the hub's cache on this machine, whole and with the sum that the hub says; fetched if need be.

    Raises TransferCorrupt when it is damaged after it has been fetched anew, EigenwerkError when it can't be had.
    """
    for anew in (False, True):
        counted = _Counted(progress)
        with _in_words(repository, commit):
            path = Path(
                importlib.import_module(_LIBRARY).hf_hub_download(
                    repository,
                    file.path,
                    repo_type="dataset",
                    revision=commit,
                    endpoint=_endpoint(),
                    force_download=anew,
                    tqdm_class=_bar(counted),
                )
            )
        # What lay in the cache went by unseen.
        counted(file.bytes - counted.bytes)
        if _is_whole(path, file):
            return path
        progress(-file.bytes)
    raise TransferCorrupt(f"{file.path} of {repository} arrived with another sum than the hub says. Try again later.")


class _Counted:
    """Passes progress on and counts it."""

    def __init__(self, progress: Progress) -> None:
        self.bytes = 0
        self._progress = progress

    def __call__(self, count: int) -> None:
        self.bytes += count
        self._progress(count)


def _bar(progress: Progress) -> type:
    """The class of bars that huggingface_hub tells what arrives. It draws nothing."""
    bar: Any = importlib.import_module("huggingface_hub.utils").tqdm

    def start(self: Any, *arguments: Any, **named: Any) -> None:
        bar.__init__(self, *arguments, **{**named, "disable": True})

    def update(self: Any, count: float | None = 1) -> None:
        progress(int(count or 0))

    return type("Told", (bar,), {"__init__": start, "update": update})


def _is_whole(path: Path, file: HubFile) -> bool:
    if path.stat().st_size != file.bytes:
        return False
    if file.sha256 is not None:
        return sha256_of(path) == file.sha256
    # Git's sum of a small file.
    total = hashlib.sha1(f"blob {file.bytes}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            total.update(chunk)
    return total.hexdigest() == file.blob_id


def _endpoint() -> str | None:
    """The library reads HF_ENDPOINT when it is imported; whoever sets it later means it too."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


@contextmanager
def _in_words(name: str, revision: str | None) -> Iterator[None]:
    """What the library raises, as EigenwerkError: one line, with what can be done."""
    errors: Any = importlib.import_module("huggingface_hub.errors")
    place = _endpoint() or "https://huggingface.co"
    at = f"hub:{name}" + (f"@{revision}" if revision else "")
    try:
        yield
    except errors.GatedRepoError as error:
        raise EigenwerkError(
            f"{at} is given only to whom its owners know. Ask for it at {place}/datasets/{name}, then set HF_TOKEN."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise EigenwerkError(
            f"{place} has no data set {name}, or does not show it to you. Check the spelling; of a private one set "
            "HF_TOKEN to a token that may read it."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise NoSuchRevision(f"{at}: the data set has no such branch, tag or commit.") from error
    except errors.OfflineModeIsEnabled as error:
        raise EigenwerkError(
            f"{at} can't be fetched: HF_HUB_OFFLINE is set, and says to stay away from the hub. Unset it, or push a "
            "file that you have: eigenwerk datasets push FILE"
        ) from error
    except errors.HFValidationError as error:
        raise EigenwerkError(f"{at} is no data set of a hub: write hub:org/name or hub:org/name@revision.") from error
    except (errors.HTTPError, OSError) as error:
        raise EigenwerkError(_failure(at, place, error)) from error


def _failure(at: str, place: str, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"{place} refuses {at} ({status}). Does your HF_TOKEN still hold, and may it read data sets?"
    if status is not None:
        return f"{place} answered {status} for {at}. Try again later."
    said = " ".join(str(error).split())[:_ERROR_CHARS_MAX]
    return f"{at} could not be fetched from {place}: {said}. Try again: what arrived whole is kept."
