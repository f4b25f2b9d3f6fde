"""Data sets that were pushed file by file: each part (train, test, validation) becomes a data set of one file."""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from fastapi import Request

from api.datasets import service
from api.foreign_files import is_large, table_limits, table_remedy
from api.hub.commits.licences import license_of
from api.hub.commits.reading import reading
from api.hub.contents import Content, stored
from api.hub.pushed_files import describes, split_of
from api.hub.repositories import Repository, commit_id
from api.inspection_cache import new_folder
from api.parts import Parts
from api.streaming import Received
from jobspecs.manifest import sha256_of
from jobspecs.profile import DatasetProfile
from jobspecs.provenance import Provenance
from jobspecs.rights import Principal
from storage.tabular import TableFormat


async def registered(
    parts: Parts, request: Request | None, user: Principal, repository: Repository, files: Mapping[str, Content]
) -> str:
    """Reads every part, then registers each; the commit of the first. Raises InvalidInput, and registers nothing then.

    Rows to train on, or the only rows there are, get the repository's name; others that name with `-test` or
    `-validation` behind it.
    """
    by_split: dict[str, list[str]] = {}
    for path in sorted(files):
        if not describes(path):
            by_split.setdefault(split_of(path), []).append(path)
    order = sorted(by_split, key=("train", "validation", "test").index)
    folder = new_folder(parts.spool.folder)
    try:
        tables = [
            await _read(parts, request, user, folder / split, {path: files[path] for path in by_split[split]})
            for split in order
        ]
        has_rows = await parts.lookups.run(partial(_has_rows, parts, user, repository))
        provenance = Provenance(license=await parts.lookups.run(partial(license_of, parts, files)))
        commits = []
        for place, (split, table) in enumerate(zip(order, tables, strict=True)):
            bare = place == 0 and (split == "train" or not has_rows)
            name = repository.name if bare else f"{repository.name}-{split}"
            commits.append(
                await parts.transfers.run(
                    partial(_push, parts, user, replace(repository, name=name), table, provenance)
                )
            )
        return commits[0]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class _Table:
    """A part of a data set as one file that was read."""

    file_name: str
    format: TableFormat
    received: Received
    profile: DatasetProfile


async def _read(
    parts: Parts, request: Request | None, user: Principal, folder: Path, files: Mapping[str, Content]
) -> _Table:
    """Raises InvalidInput."""
    received, name = await parts.transfers.run(partial(_fetched, parts, folder, files))
    file_name, table = service.checked_file_name(name)
    limits = table_limits(received.bytes, table, parts.settings)
    work = partial(service.profiled, parts, file_name, table, received)
    profile = await reading(
        parts, request, user, file_name, table_remedy(table), work, large=is_large(limits), limits=limits
    )
    return _Table(file_name, table, received, profile)


def _fetched(parts: Parts, folder: Path, files: Mapping[str, Content]) -> tuple[Received, str]:
    """The file, or a tar of the files, and its name."""
    folder.mkdir()
    names = _names(files)
    for path, file in stored(parts, list(files.items())).items():
        parts.objects.download_stored(file, folder / names[path], should_stop=parts.stopping.is_set)
    if len(files) == 1:
        (path, content), (name,) = *files.items(), names.values()
        return Received(folder / name, content.bytes, content.sha256), name
    tar = folder / f"{folder.name}.tar"
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in names.values():
            entry = tarfile.TarInfo(name)
            entry.size = (folder / name).stat().st_size
            with (folder / name).open("rb") as content_of_it:
                archive.addfile(entry, content_of_it)
            (folder / name).unlink()
    return Received(tar, tar.stat().st_size, sha256_of(tar)), tar.name


def _names(paths: Iterable[str]) -> dict[str, str]:
    """Path -> a name without folders: its own where no other file has it."""
    own = Counter(PurePosixPath(path).name for path in paths)
    return {
        path: PurePosixPath(path).name if own[PurePosixPath(path).name] == 1 else path.replace("/", "-")
        for path in paths
    }


def _has_rows(parts: Parts, user: Principal, repository: Repository) -> bool:
    with parts.database.unit_of_work() as work:
        return work.datasets.find(user.reach(repository.writing), repository.reference) is not None


def _push(parts: Parts, user: Principal, repository: Repository, table: _Table, provenance: Provenance) -> str:
    """The commit of the version, which is an earlier one where that has this content."""
    owner_id = service.maker(parts, user, repository.reference)
    version, _ = service.push(
        parts,
        owner_id,
        repository.name,
        table.file_name,
        table.format,
        table.received,
        table.profile,
        provenance,
        parts.stopping.is_set,
    )
    return commit_id(version.sha256, version.version)
