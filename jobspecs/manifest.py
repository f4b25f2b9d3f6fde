"""The manifest of an artifact or checkpoint: what it consists of. It is written last, so what has one is complete."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from jobspecs.verification import Verification

MANIFEST_NAME = "manifest.json"
#: The file that tells people what an artifact is.
CARD = "README.md"
#: The file of a trained model with what was predicted for each row that judged it.
PREDICTIONS_PATH = "evaluation/held-out.parquet"
#: The key of its metadata under which a JSON document tells what it holds.
PREDICTIONS_KEY = "eigenwerk"
#: Bytes read at once when hashing.
_CHUNK_BYTES = 1 << 20


def check_relative_path(text: str) -> str:
    """Returns `text` when it is a plain relative POSIX path inside its root; raises ValueError otherwise."""
    path = PurePosixPath(text)
    if (
        not text
        or text != str(path)
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in text
        or not text.isprintable()
    ):
        raise ValueError(f"{text!r} is not a plain relative path")
    return text


RelativePath = Annotated[str, AfterValidator(check_relative_path)]


class ManifestFile(BaseModel):
    """One file: its path inside the artifact, its size in bytes, and its sha256 in lower-case hex."""

    model_config = ConfigDict(frozen=True)

    path: RelativePath
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ModelOrigin(BaseModel):
    """Another model that an artifact depends on or was made from."""

    model_config = ConfigDict(frozen=True)

    #: `owner/name@version` of the registry, or `hub:org/name@commit`.
    reference: str
    #: Its manifest's digest; None for a hub's model, whose commit is in the reference.
    digest: str | None = None


class DatasetOrigin(BaseModel):
    """A data set that a job read."""

    model_config = ConfigDict(frozen=True)

    #: `owner/name@version`.
    reference: str
    #: Of its file; None where the job was not told.
    sha256: str | None = None
    #: Where its rows came from, and under which licence, as far as whoever pushed it said so.
    origin: str | None = None
    license: str | None = None


class Manifest(BaseModel):
    """The files of an artifact, what made it (`versions`: library -> version) and what was measured."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = 1
    #: What the artifact is: `model`, `checkpoint`, `dataset`.
    artifact: str
    #: For models: the task they serve, such as `text-classification`.
    task: str | None = None
    #: For adapters: the model that they change, without which they can't be used.
    base: ModelOrigin | None = None
    files: tuple[ManifestFile, ...]
    versions: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    #: Of models that were compared in their engine with what they were made from.
    verification: Verification | None = None
    #: The verdict and other facts for the model card; plain JSON.
    report: dict[str, Any] = Field(default_factory=dict)

    @property
    def bytes_total(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def digest(self) -> str:
        """sha256 over the sorted list of path, size and sha256: equal files give equal digests."""
        lines = sorted(f"{file.path}\0{file.bytes}\0{file.sha256}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def file(self, path: str) -> ManifestFile | None:
        return next((file for file in self.files if file.path == path), None)


def sha256_of(path: Path) -> str:
    """sha256 of a file's content in lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def describe_files(root: Path) -> tuple[ManifestFile, ...]:
    """Every regular file below `root` but the manifest itself, sorted by path. Links are refused with ValueError."""
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            raise ValueError(f"{path.name} is a link: an artifact holds regular files only")
        relative = path.relative_to(root).as_posix()
        if path.is_file() and relative != MANIFEST_NAME:
            found.append(ManifestFile(path=relative, bytes=path.stat().st_size, sha256=sha256_of(path)))
    return tuple(found)


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Writes `manifest.json` atomically: a reader sees the whole of it or nothing."""
    temporary = root / f".{MANIFEST_NAME}.part"
    temporary.write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    temporary.replace(root / MANIFEST_NAME)


def read_manifest(root: Path) -> Manifest:
    """Reads `manifest.json` below `root`. Raises FileNotFoundError when the artifact is incomplete."""
    return Manifest.model_validate_json((root / MANIFEST_NAME).read_bytes())
