"""Fetches a model from a model hub at one commit. Only safetensors, JSON and tokenizer files; never code or pickles."""

from __future__ import annotations

import os
import re
from pathlib import Path

from httpx import TransportError
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from jobspecs.frozen import FrozenHubModel
from jobspecs.lifecycle import Reason
from workers.run.context import RunFailed

#: What a model may consist of. `.txt` and `.model` are vocabularies (WordPiece, SentencePiece).
ALLOWED_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
#: Exports for other engines that some repositories carry along.
IGNORED_FILES = ("onnx/*", "openvino/*", "coreml/*", "tf*/*", "flax*/*")
#: Set to 1 to let every user's jobs read what the worker's HF_TOKEN can read: private and gated models too.
ACCESS_FOR_ALL = "EIGENWERK_HUB_TOKEN_FOR_ALL"


#: What the hub keeps outside of its git is named by its sha256.
_NAMED_BY_SUM = re.compile(r"[0-9a-f]{64}")


class HubUnavailable(Exception):
    """The hub does not answer. The same call may work later."""


def fetch_snapshot(model: FrozenHubModel, cache: Path, *, endpoint: str | None = None) -> Path:
    """The folder with the repository's allowed files at the commit. HF_ENDPOINT of the worker applies.

    The worker's HF_TOKEN is used only where EIGENWERK_HUB_TOKEN_FOR_ALL is 1: it is not the user's who asks.
    Raises HubUnavailable; RunFailed when the repository can't be read or holds no safetensors weights.
    """
    try:
        folder = Path(
            snapshot_download(
                model.repository,
                revision=model.revision,
                cache_dir=cache,
                endpoint=endpoint,
                token=None if os.environ.get(ACCESS_FOR_ALL) == "1" else False,
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


def check_arrived(path: Path, sha256: str) -> None:
    """Raises HubUnavailable when a large file of a snapshot isn't what the hub promised: the next try fetches it anew.

    The hub's client compares sizes alone.
    """
    blob = path.resolve()
    if _NAMED_BY_SUM.fullmatch(blob.name) and blob.name != sha256:
        blob.unlink()
        path.unlink()
        raise HubUnavailable(f"{path.name} arrived from the hub with sha256 {sha256[:12]}…, not {blob.name[:12]}….")
