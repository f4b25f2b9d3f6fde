"""Checks a model's files against its manifest before an engine reads them."""

from __future__ import annotations

from pathlib import Path

from jobspecs.lifecycle import Reason
from jobspecs.manifest import describe_files, read_manifest
from workers.run.context import RunFailed


def check_files(model_dir: Path, digest: str) -> None:
    """Reads every file. Raises RunFailed(corrupt_artifact) naming the first that is not what was committed.

    `digest` is the manifest's own, from the registry: a forged manifest beside forged files is refused too.
    """
    try:
        manifest = read_manifest(model_dir)
        found = {file.path: file for file in describe_files(model_dir)}
    except (OSError, ValueError) as error:
        raise RunFailed(Reason.corrupt_artifact, f"The model's files can't be checked: {error}") from error
    if manifest.digest != digest:
        raise RunFailed(Reason.corrupt_artifact, "manifest.json is not the one that was registered.")
    for file in manifest.files:
        actual = found.pop(file.path, None)
        if actual is None:
            raise RunFailed(Reason.corrupt_artifact, f"{file.path} is missing.")
        if actual != file:
            raise RunFailed(
                Reason.corrupt_artifact,
                f"{file.path} is damaged: expected {file.bytes} bytes with sha256 {file.sha256}, "
                f"found {actual.bytes} bytes with sha256 {actual.sha256}.",
            )
    if found:
        raise RunFailed(Reason.corrupt_artifact, f"{min(found)} is not in the manifest.")
