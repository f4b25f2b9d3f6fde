"""Data sets and models: what goes in, what is there, and what comes out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eigenwerk.calls.registry import RegistryCalls
from eigenwerk.errors import EigenwerkError
from eigenwerk.files.several_files import Files, as_one, left_out, named_files
from eigenwerk.files.transfers import Progress, download_file, file_body, ignore_progress, upload_headers
from eigenwerk.http.transport import given
from eigenwerk.hub import HubDataset, Transferring, find_hub_dataset, ready_to_push, unseen
from eigenwerk.references import numbered_path, parsed, path_of
from eigenwerk.resources import (
    ChatPreview,
    DatasetVersion,
    DatasetVersionDetail,
    Deleted,
    Preview,
    StorageUsage,
)
from eigenwerk.rows import DatasetRows, holds_rows, rows_as_files
from jobspecs.manifest import PREDICTIONS_PATH, ManifestFile, sha256_of
from jobspecs.references import NAME_PATTERN
from jobspecs.rights import Visibility

_NAME = re.compile(NAME_PATTERN)


class ArtifactCalls(RegistryCalls):
    """The part of a Client that moves files, and knows the versions of data sets."""

    def push_dataset(
        self,
        files: Files | Any,
        *,
        name: str | None = None,
        columns: Sequence[str] | None = None,
        delimiter: str | None = None,
        quote: str | None = None,
        encoding: str | None = None,
        sheet: str | None = None,
        layout: str | None = None,
        origin: str | None = None,
        license: str | None = None,
        progress: Progress = ignore_progress,
    ) -> DatasetVersion:
        """Sends a table (CSV, TSV, TXT, CoNLL, JSONL, JSON, XLSX, ODS, Parquet) as the next version of `name`.

        Several files with the same columns, or the tables of a folder, are one table; of `{"train": paths, "test":
        path}` the column `split` says where each row belongs.

        In place of files it may be rows: a DataFrame of pandas, a Dataset or DatasetDict of datasets, a list of
        dictionaries, or parts of a split with such. They need a name, and nothing of how they are read.

        `columns` names those of a file that has no header. The rest tells how its text is read, where it should not be
        recognised: `delimiter` (comma, semicolon, tab, pipe or a character), `quote` (", ' or none), `encoding`; and
        `sheet`, the name of a workbook's sheet or its number; `layout`, where a JSON file has its rows: columns, index,
        split, array, lines or below:KEY. The version's `recognised` and `notices` tell how it was.
        The name is the first file's, up to its first dot, when there is none; it may carry an owner: `owner/name`.
        `origin` and `license` are kept and shown. Equal content gives its version again. Raises EigenwerkError, before
        anything is sent, for what is no file.
        """
        if holds_rows(files):
            if name is None:
                raise EigenwerkError("Rows have no file's name to go by. Give one: name=")
            with rows_as_files(files) as written:
                return self.push_dataset(written, name=name, origin=origin, license=license, progress=progress)
        found, beside = named_files(files), left_out(files)
        url = path_of("datasets", name or _name_of(next(iter(found.values()))))
        with as_one(found, url.rpartition("/")[2]) as file:
            version = DatasetVersion.model_validate(
                self._transport.call(
                    "PUT",
                    url,
                    params=given(
                        file_name=file.name,
                        columns=None if columns is None else list(columns),
                        delimiter=delimiter,
                        quote=quote,
                        encoding=encoding,
                        sheet=sheet,
                        layout=layout,
                        origin=origin,
                        license=license,
                    ),
                    headers=upload_headers(file),
                    body=file_body(file, progress),
                )
            )
        if not beside:
            return version
        notice = f"left out: {', '.join(f'{path} ({why})' for path, why in beside.items())}"
        return version.model_copy(update={"notices": [notice, *version.notices]})

    def pull_dataset(
        self,
        source: str | HubDataset,
        *,
        name: str | None = None,
        config: str | None = None,
        splits: Sequence[str] = (),
        class_names: bool = True,
        transferring: Transferring = unseen,
    ) -> DatasetVersion:
        """Makes a data set of a model hub, `hub:org/name` or `hub:org/name@revision`, the next version of `name`.

        It is fetched to this machine with your token, at one commit, which is kept as `origin`, and sent from here.
        Several parts are one data set with the column `split`; `splits` takes only some. `class_names` puts the names
        of classes in place of their numbers. The source may also be what `find_hub_dataset` gave.
        Needs eigenwerk[hub].
        """
        found = source if isinstance(source, HubDataset) else find_hub_dataset(source, config=config, splits=splits)
        target = path_of("datasets", name or found.name)
        # Nothing is fetched for a platform that isn't there, or a token that doesn't hold.
        self._owner()
        with (
            ready_to_push(found, class_names=class_names, transferring=transferring) as (file, said),
            transferring(file.name, file.stat().st_size) as progress,
        ):
            try:
                version = self.push_dataset(
                    file,
                    name=target.removeprefix("/v1/datasets/"),
                    origin=found.origin,
                    license=found.license,
                    progress=progress,
                    **found.reading,
                )
            except EigenwerkError as error:
                raise found.refused(error) from error
        if version.origin != found.origin:
            said = [
                *said,
                f"these rows were there already; they came from {version.origin or 'a file that was pushed'}",
            ]
        return version.model_copy(update={"notices": [*found.notices, *said, *version.notices]})

    def datasets(self, *, shared: bool = False) -> list[DatasetVersion]:
        """The newest version of each of your data sets; with `shared` also of those that others share."""
        page = self._transport.call("GET", "/v1/datasets", params={"shared": "true"} if shared else None)
        return [DatasetVersion.model_validate(item) for item in page["data"]]

    def share_dataset(self, name: str, visibility: Visibility = "everyone") -> Visibility:
        """Lets everyone on the platform read all versions of a data set of yours; `private` takes it back.

        Jobs that use it already keep it.
        """
        answer = self._transport.call("PATCH", path_of("datasets", name), json={"visibility": visibility})
        shared: Visibility = answer["visibility"]
        return shared

    def dataset_version(self, reference: str) -> DatasetVersionDetail:
        """`name`, `name@3` or with an owner: the version with what is known of its columns."""
        return DatasetVersionDetail.model_validate(self._transport.call("GET", _version_path(reference)))

    def dataset(self, reference: str) -> DatasetRows:
        """`name`, `name@3` or with an owner, whose rows come as `to_pandas()` or `to_datasets()`."""
        version = self.dataset_version(reference)
        name, _, number = version.reference.partition("@")
        card = f"/hf/datasets/{name}/resolve/{number}/README.md"
        return DatasetRows(version, self.download_dataset, lambda: self._text(card))

    def dataset_versions(self, name: str) -> list[DatasetVersion]:
        """All versions of `name`, or with an owner: `owner/name`; the newest first."""
        found = self._transport.call("GET", path_of("datasets", name))
        return [DatasetVersion.model_validate(item) for item in found["versions"]]

    def download_dataset(
        self, version: DatasetVersion, path: Path = Path(), *, progress: Progress = ignore_progress
    ) -> Path:
        """Fetches the version's file, as it was pushed or made, and gives its place: `path`, or below it if a folder.

        A path without an ending is a folder, which is made; files of data sets have one.

        Its sha256 is checked; interrupted, it goes on where it stopped when called again. Raises TransferCorrupt, and
        EigenwerkError where another file lies already.
        """
        target = path / version.file_name if path.is_dir() or not path.suffix else path
        file = ManifestFile(path=version.file_name, bytes=version.bytes, sha256=version.sha256)
        self._fetch(f"{_version_path(version.reference)}/file", file, target, version.reference, progress)
        return target

    def preview_dataset(self, reference: str, *, rows: int = 10) -> Preview:
        """The first rows of `name`, `name@version`, or either with an owner: `owner/name`."""
        return Preview.model_validate(
            self._transport.call("GET", f"{_version_path(reference)}/preview", params={"rows": rows})
        )

    def preview_chats(self, reference: str, *, rows: int = 3, model: str | None = None, **reading: str) -> ChatPreview:
        """The first rows as conversations, and as the registered model will see them if one is named.

        `reading`: objective (sft, dpo, orpo, kto, pretrain), format, prompt, completion, text, system as texts with
        {column} places, merge_turns (true), unanswered (drop) and control_tokens (keep, refuse).
        """
        params = given(**{"as": "chat", "rows": rows, "model": model, **reading})
        return ChatPreview.model_validate(
            self._transport.call("GET", f"{_version_path(reference)}/preview", params=params)
        )

    def download_predictions(
        self, reference: str, path: Path = Path(), *, progress: Progress = ignore_progress
    ) -> Path:
        """Fetches what a model version predicted for the rows that judged it: one Parquet file, without their texts.

        Gives its place: `path`, or NAME-VERSION-held-out.parquet below it if that is a folder. Raises EigenwerkError
        for models that keep none, and where another file lies already.
        """
        version = self.model_version(reference)
        file = version.manifest.file(PREDICTIONS_PATH)
        if file is None:
            raise EigenwerkError(
                f"{version.reference} keeps no predictions: only models that a job of this release or a later one "
                "trained do. Train it again."
            )
        target = path / f"{version.name}-{version.version}-{Path(file.path).name}" if path.is_dir() else path
        model = f"/v1/registry/models/{version.owner}/{version.name}/versions/{version.version}"
        self._fetch(f"{model}/files/{file.path}", file, target, f"the file of {version.reference}", progress)
        return target

    def _fetch(self, url: str, file: ManifestFile, target: Path, what: str, progress: Progress) -> None:
        """One file to `target`. Raises EigenwerkError where another one lies."""
        if target.exists() and (target.stat().st_size != file.bytes or sha256_of(target) != file.sha256):
            raise EigenwerkError(f"{target} is there already and is not {what}. Name another path.")
        download_file(self._transport, url, file, target, progress)

    def delete_dataset(self, reference: str, *, dry_run: bool = False) -> Deleted:
        """Deletes `name@version`, or all versions of `name` (or with an owner). Status 409 while a job reads one.

        With `dry_run` it is only told what would be gone.
        """
        wanted = parsed(reference)
        path = path_of("datasets", wanted) + numbered_path(wanted, reference)
        return self._deleted(path, dry_run)

    def storage_usage(self, *, everybody: bool = False) -> StorageUsage:
        """What you have stored; `everybody`: what all have, as far as your token allows."""
        params = {"all": "true"} if everybody else None
        return StorageUsage.model_validate(self._transport.call("GET", "/v1/usage/storage", params=params))


def _name_of(file: Path) -> str:
    """What the data set of a file is called. Raises EigenwerkError when that can't be a name."""
    name = file.name.split(".")[0]
    if not _NAME.fullmatch(name):
        raise EigenwerkError(
            f"{name!r}, as the file is called, can't be a data set's name: those have letters a to z, digits, dots, "
            "hyphens and underscores. Give one: --name NAME, in Python name=."
        )
    return name


def _version_path(reference: str) -> str:
    wanted = parsed(reference)
    return f"{path_of('datasets', wanted)}/versions/{wanted.version or wanted.alias or 'latest'}"
