"""Folders with a model in them: what of it is sent, and whether a downloaded one is whole.

A folder may come from somebody else, and a link in it may name any file of the person who sends it: links are followed
inside the folder only, and, as a hub's cache keeps its files under `models--*/blobs`, inside that.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from eigenwerk.errors import EigenwerkError, TransferCorrupt
from jobspecs.manifest import MANIFEST_NAME, Manifest, describe_files, read_manifest

#: Files that the registry takes; everything else (weights as pickles, caches) stays where it is.
_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja", ".md", ".gguf", ".spm"})


def model_files(folder: Path) -> list[Path]:
    """The files of a model folder that the registry takes, sorted; of a GGUF file itself.

    Raises EigenwerkError when it is no model, or when a link leads out of it.
    """
    if folder.is_file() and folder.suffix.lower() == ".gguf":
        return [folder]
    if not folder.is_dir():
        raise EigenwerkError(
            f"{folder} is no folder and no GGUF file. Name the folder that holds config.json and the weights."
        )
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.suffix.lower() in _SUFFIXES
        and path.name != MANIFEST_NAME
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not any(path.suffix.lower() in (".safetensors", ".gguf") for path in found):
        raise EigenwerkError(
            f"{folder} holds no weights as safetensors or GGUF. Convert them with transformers: "
            "model.save_pretrained(folder)."
        )
    _check_links(folder, found)
    return found


@contextmanager
def model_folder(path: Path) -> Iterator[Path]:
    """The path itself; of a tar file of `export_model` a folder with its files, each with its sha256 right.

    Raises EigenwerkError for a tar with anything else in it, TransferCorrupt for a damaged one.
    """
    if path.suffix.lower() != ".tar" or not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="eigenwerk-tar-") as name:
        folder = Path(name)
        try:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
            # Earlier exports have no folder in them.
            if not (folder / MANIFEST_NAME).exists():
                folder = next((entry for entry in folder.iterdir() if entry.is_dir()), folder)
            manifest = read_manifest(folder)
        except (tarfile.TarError, FileNotFoundError, ValidationError) as error:
            raise EigenwerkError(
                f"{path} is no tar file of eigenwerk models export: {error}. Unpack it, and name the folder."
            ) from error
        check_folder(folder, manifest)
        yield folder


def _check_links(folder: Path, files: Sequence[Path]) -> None:
    """Raises EigenwerkError for a file that lies elsewhere than it seems to: outside the folder and its hub cache."""
    root = folder.resolve()
    # <cache>/models--<organisation>--<name>/snapshots/<commit>/<file> -> ../../blobs/<hash>
    hub = next((parent / "blobs" for parent in root.parents if parent.name.startswith("models--")), None)
    for file in files:
        target = file.resolve()
        if not target.is_relative_to(root) and (hub is None or not target.is_relative_to(hub)):
            raise EigenwerkError(
                f"{file} is a link to {target}, outside of the folder, and is not sent. "
                "Copy the file into the folder if it belongs to the model; otherwise remove the link."
            )


def check_folder(folder: Path, manifest: Manifest) -> None:
    """Reads every file of a downloaded model again and compares it with the manifest. Raises TransferCorrupt."""
    actual = {file.path: file for file in describe_files(folder)}
    for file in manifest.files:
        if actual.get(file.path) != file:
            raise TransferCorrupt(f"{folder / file.path} is not what the manifest names. Download it again.")
