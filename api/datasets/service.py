"""Taking in data sets and reading what is known of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from api.datasets.schemas import (
    Dataset,
    DatasetChange,
    DatasetList,
    DatasetVersionDetail,
    Preview,
    detail_of,
    version_of,
)
from api.errors import ApiError, not_found, not_yours, unavailable
from api.foreign_files import table_limits
from api.parts import Parts
from api.references.names import maker_of
from api.streaming import Received
from corpus.confinement.process import Limits
from jobspecs.dialect import Dialect
from jobspecs.manifest import ManifestFile
from jobspecs.pieces import StoredFile
from jobspecs.problems import InvalidInput, Problem
from jobspecs.profile import DatasetProfile
from jobspecs.provenance import Provenance
from jobspecs.purposes import Purpose
from jobspecs.references import Reference
from jobspecs.rights import Principal, Reach
from storage.database import UnitOfWork
from storage.objects import ObjectStore
from storage.tables import DatasetVersionRow
from storage.tabular import TableFormat, detect_format

log = logging.getLogger(__name__)

_PREVIEW_ROWS = 10
#: Bytes fetched for a preview: enough rows, whatever the size of the file.
_PREVIEW_BYTES = 4 * 1024 * 1024
#: Parquet and workbooks have their index at the end, JSON by columns its rows all over the file: a preview needs all
#: of it, and larger ones have none.
_PREVIEW_WHOLE_BYTES_MAX = 64 * 1024 * 1024
#: Seconds that the object store has to give these bytes out.
PREVIEW_SECONDS_MAX = 30.0
_FILE_NAME_CHARS_MAX = 255
#: An object that was sent longer ago than this and has no version is deleted.
_PUSH_SECONDS_MAX = 24 * 3600.0


def checked_file_name(file_name: str, told: Dialect | None = None) -> tuple[str, TableFormat]:
    """The name and the format that it tells. Raises InvalidInput before a byte of the body is read."""
    if (
        len(file_name) > _FILE_NAME_CHARS_MAX
        or not file_name.isprintable()
        or any(character in file_name for character in '/\\"')
        or file_name.startswith(".")
    ):
        problem = Problem(
            field="file_name", message=f"{file_name!r} is not a file name.", remedy="Give a name such as headlines.csv."
        )
        raise InvalidInput([problem])
    return file_name, detect_format(file_name, told)


def profiled(
    parts: Parts, file_name: str, table: TableFormat, received: Received, should_stop: Callable[[], bool]
) -> DatasetProfile:
    """Reads every row of the file. Raises what `Confinement.run` raises."""
    arguments = {
        "path": received.path.resolve(),
        "fmt": table,
        "file_name": file_name,
        "max_bytes": parts.settings.table_bytes_max,
        "max_rows": parts.settings.table_rows_max,
    }
    limits = table_limits(received.bytes, table, parts.settings)
    return DatasetProfile.model_validate(parts.confinement.run("profile", arguments, limits, should_stop))


def maker(parts: Parts, user: Principal, reference: Reference) -> UUID:
    """Who will own what is pushed under this name. Raises what `maker_of` raises: before the body is read."""
    with parts.database.unit_of_work() as work:
        return maker_of(work, user.reach("datasets.write"), reference)


def push(
    parts: Parts,
    owner_id: UUID,
    name: str,
    file_name: str,
    table: TableFormat,
    received: Received,
    profile: DatasetProfile,
    provenance: Provenance,
    should_stop: Callable[[], bool],
    purpose: Purpose = "fine-tune",
) -> tuple[DatasetVersionDetail, bool]:
    """Stores the file as the next version; content that is there already gives that version, and False.

    Pushed again, content heals a version whose stored object is missing or damaged. Raises TransferStopped.
    """
    earlier = _same_content(parts, owner_id, name, file_name, profile, received)
    if earlier is not None:
        _heal(parts, earlier, received, should_stop)
        return detail_of(earlier), False
    version_id = uuid4()
    # The key is made of ids, never of names; the suffix keeps the format visible to people who look into the bucket.
    folder = f"datasets/{version_id}"
    key = f"{folder}/data{_suffix(table)}"
    # Until the version is committed its object is garbage. So nothing has to be deleted here, whatever fails: a commit
    # without an answer may have happened.
    with parts.database.unit_of_work() as work:
        work.garbage.add(folder, bytes_total=received.bytes, after_s=_PUSH_SECONDS_MAX)
    parts.objects.upload_file(received.path, key, sha256=received.sha256, should_stop=should_stop)
    with parts.database.unit_of_work() as work:
        if work.garbage.take_back(folder):
            row = work.datasets.add_version(
                owner_id,
                name,
                version_id=version_id,
                file_name=file_name,
                key=key,
                bytes_total=received.bytes,
                sha256=received.sha256,
                profile=profile,
                provenance=provenance,
                purpose=purpose,
            )
            created = row.id == version_id
            if not created:
                work.garbage.add(folder, bytes_total=received.bytes)
            return detail_of(row), created
        # It was swept while it was sent, and parts of it may have arrived since.
        work.garbage.add(folder, bytes_total=received.bytes)
    raise unavailable("The object store took too long. Send the file again.", "push_took_too_long")


def _heal(parts: Parts, row: DatasetVersionRow, received: Received, should_stop: Callable[[], bool]) -> None:
    """Sends the object again when it is missing or damaged."""
    if parts.objects.holds(row.key, sha256=row.sha256, bytes_total=row.bytes):
        return
    log.warning("data set version %s had lost its object and gets it back", row.id)
    parts.objects.upload_file(received.path, row.key, sha256=received.sha256, should_stop=should_stop)
    with parts.database.unit_of_work() as work:
        folder = row.key.rpartition("/")[0]
        deleted = not work.garbage.named_by_versions([folder])
        if deleted:
            work.garbage.add(folder, bytes_total=row.bytes)
    if deleted:
        # Raised after the commit: what is raised inside takes the note about the object back.
        raise not_found(f"data set {row.dataset.name} with version {row.version} any more; push it again")


def _same_content(
    parts: Parts, owner_id: UUID, name: str, file_name: str, profile: DatasetProfile, received: Received
) -> DatasetVersionRow | None:
    with parts.database.unit_of_work() as work:
        for row in work.datasets.list_versions(Reach.of(owner_id), Reference(name=name)):
            if row.holds(received.sha256, file_name, profile.dialect):
                return row
    return None


def list_datasets(parts: Parts, user: Principal, *, shared: bool = False) -> DatasetList:
    """The user's; with `shared` also what others share."""
    reach = user.reach("datasets.read")
    with parts.database.unit_of_work() as work:
        newest: dict[UUID, DatasetVersionRow] = {}
        for row in work.datasets.list_versions(reach if shared else reach.own):
            newest.setdefault(row.dataset_id, row)
        return DatasetList(data=[version_of(row) for row in newest.values()])


def get_dataset(parts: Parts, user: Principal, reference: Reference) -> Dataset:
    with parts.database.unit_of_work() as work:
        rows = work.datasets.list_versions(user.reach("datasets.read"), reference)
        if not rows:
            raise not_found(f"data set {reference}")
        dataset = rows[0].dataset
        return Dataset(
            owner=dataset.owner.name,
            name=dataset.name,
            visibility=dataset.visibility,
            versions=[version_of(row) for row in rows],
        )


def find_to_change(work: UnitOfWork, user: Principal, reference: Reference) -> DatasetVersionRow:
    """Raises ApiError 404, and 403 for what the user may only read."""
    row = work.datasets.find(user.reach("datasets.write"), reference)
    if row is None:
        shared = work.datasets.find(user.reach("datasets.read"), reference)
        what = f"data set {reference}"
        raise not_found(what) if shared is None else not_yours(what, shared.dataset.owner.name)
    return row


def change(parts: Parts, user: Principal, reference: Reference, change: DatasetChange) -> Dataset:
    """Raises ApiError 404, 403."""
    with parts.database.unit_of_work() as work:
        row = find_to_change(work, user, reference).dataset
        if change.visibility is not None:
            work.datasets.change(row, visibility=change.visibility)
    return get_dataset(parts, user, reference)


def get_version(parts: Parts, user: Principal, reference: Reference) -> DatasetVersionDetail:
    return detail_of(find_version(parts, user, reference))


def stored_file(parts: Parts, user: Principal, reference: Reference) -> StoredFile:
    """The file under the name that it was pushed with. Raises ApiError(404)."""
    row = find_version(parts, user, reference)
    return StoredFile.whole(row.key, ManifestFile(path=row.file_name, bytes=row.bytes, sha256=row.sha256))


@dataclass(frozen=True)
class Beginning:
    """The first megabytes of a version's file, fetched to `path`."""

    row: DatasetVersionRow
    path: Path
    bytes: int
    #: For a pass over it.
    limits: Limits

    @property
    def format(self) -> TableFormat:
        return detect_format(self.row.file_name, self.row.how_to_read())


def preview(parts: Parts, beginning: Beginning, rows: int | None, should_stop: Callable[[], bool]) -> Preview:
    """The first rows, from the first megabytes of the file."""
    return Preview(
        columns=list(beginning.row.profile["columns"]),
        rows=first_rows(parts, beginning, rows or _PREVIEW_ROWS, should_stop),
    )


def find_version(parts: Parts, user: Principal, reference: Reference) -> DatasetVersionRow:
    """Raises ApiError(404)."""
    with parts.database.unit_of_work() as work:
        row = work.datasets.find(user.reach("datasets.read"), reference)
    if row is None:
        raise not_found(f"data set {reference}")
    return row


def fetch_beginning(
    parts: Parts, objects: ObjectStore, user: Principal, reference: Reference, folder: Path
) -> Beginning:
    """Fetches it into `folder`, before there is a place to read it. Raises ApiError(404), (422) for large Parquet."""
    row = find_version(parts, user, reference)
    table = detect_format(row.file_name, row.how_to_read())
    wanted = row.bytes if table.whole else min(row.bytes, _PREVIEW_BYTES)
    if table.whole and row.bytes > _PREVIEW_WHOLE_BYTES_MAX:
        raise ApiError(
            422, "Parquet files, workbooks and JSON by columns of this size have no preview; their profile has columns."
        )
    path = folder / "beginning"
    with path.open("wb") as file, objects.open_range(row.key, 0, wanted) as chunks:
        for chunk in chunks:
            file.write(chunk)
    return Beginning(row, path, wanted, table_limits(wanted, table, parts.settings))


def first_rows(parts: Parts, beginning: Beginning, count: int, should_stop: Callable[[], bool]) -> list[dict[str, Any]]:
    """At most `count` rows of the file, as JSON has them: those that its first megabytes hold."""
    row = beginning.row
    arguments = {
        "path": beginning.path.resolve(),
        "fmt": beginning.format,
        "file_name": row.file_name,
        "count": count,
        "cut": beginning.bytes < row.bytes,
    }
    rows: list[dict[str, Any]] = parts.confinement.run("first_rows", arguments, beginning.limits, should_stop)
    return rows


def _suffix(table: TableFormat) -> str:
    return f".{table.kind}" + (f".{table.compression}" if table.compression else "")
