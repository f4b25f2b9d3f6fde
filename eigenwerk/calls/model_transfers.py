"""Models on their way: into the registry, out of it, and as links to share."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from eigenwerk.calls.artifacts import ArtifactCalls
from eigenwerk.errors import EigenwerkError, TransferCorrupt
from eigenwerk.files.model_folders import model_files, model_folder
from eigenwerk.files.pushes import push_files
from eigenwerk.files.transfers import Progress, download_file, ignore_progress
from eigenwerk.resources import FileLink, ModelVersionDetail
from jobspecs.file_errors import why_not
from jobspecs.manifest import MANIFEST_NAME, write_manifest


class ModelTransferCalls(ArtifactCalls):
    """The part of a Client that moves models."""

    def import_model(self, folder: Path, *, name: str, progress: Progress = ignore_progress) -> ModelVersionDetail:
        """Sends a model folder (safetensors, JSON, tokenizer files) and registers it as the next version of `name`.

        Instead of the folder it may be a tar file that `export_model` wrote.

        Large files go in pieces, and what the platform has of them isn't sent: cut off, a push goes on where it
        stopped when it is made again. A GGUF file is registered as it is; the job kind `import-model` makes a model of
        it that other jobs can read.
        """
        with model_folder(folder) as found:
            root = found if found.is_dir() else found.parent
            files = {file.relative_to(root).as_posix(): file for file in model_files(found)}
            return ModelVersionDetail.model_validate(push_files(self._transport, files, name, progress))

    def download(self, reference: str, folder: Path, *, progress: Progress = ignore_progress) -> ModelVersionDetail:
        """Fetches every file of a model version into `folder` and checks its sha256; `manifest.json` is written last.

        Interrupted, it goes on where it stopped when called again. Raises TransferCorrupt.
        """
        version = self.model_version(reference)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A folder with a manifest is complete: until this one is, it has none.
            (folder / MANIFEST_NAME).unlink(missing_ok=True)
        except OSError as error:
            raise EigenwerkError(f"{folder} can't be a folder for the files: {why_not(error)}.") from error
        for file in version.manifest.files:
            url, parts = (f"{_path(version)}/{what}/{quote(file.path)}" for what in ("files", "parts"))
            download_file(self._transport, url, file, folder / file.path, progress, parts_url=parts)
        write_manifest(folder, version.manifest)
        return version

    def file_link(self, reference: str, path: str, *, expires_s: int = 3600) -> FileLink:
        """A link with which anybody may fetch one file of a version, for `expires_s` seconds: at most seven days."""
        version = self.model_version(reference)
        return FileLink.model_validate(
            self._transport.call("POST", f"{_path(version)}/links", json={"path": path, "expires_s": expires_s})
        )

    def export_model(self, reference: str, target: Path | BinaryIO, *, progress: Progress = ignore_progress) -> None:
        """Writes a version as one tar file of the folder NAME-vN: SHA256SUMS, manifest.json, and its files.

        `import_model` takes it again. Raises TransferCorrupt when it broke off; a file is there whole or not at all.
        """
        version = self.model_version(reference)
        if not isinstance(target, Path):
            self._export(version, target, progress)
            return
        draft = target.with_name(f".{target.name}.part")
        try:
            with draft.open("wb") as stream:
                self._export(version, stream, progress)
            draft.replace(target)
        except OSError as error:
            raise EigenwerkError(f"{target} can't be written: {why_not(error)}.") from error
        finally:
            draft.unlink(missing_ok=True)

    def _export(self, version: ModelVersionDetail, stream: BinaryIO, progress: Progress) -> None:
        received = 0
        with self._transport.stream(f"{_path(version)}/export", {"Accept-Encoding": "identity"}) as response:
            for chunk in response.iter_bytes(1 << 20):
                stream.write(chunk)
                progress(len(chunk))
                received += len(chunk)
            expected = int(response.headers.get("Content-Length", received))
        if received != expected:
            raise TransferCorrupt(f"The tar broke off after {received} of {expected} bytes. Export it again.")


def _path(version: ModelVersionDetail) -> str:
    return f"/v1/registry/models/{version.owner}/{version.name}/versions/{version.version}"
