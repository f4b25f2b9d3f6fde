"""When a push is over, and what its version is."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import Request

from api.errors import ApiError
from api.foreign_files import FILE_LIMITS, MODEL_REMEDY
from api.hub.commits.closing_datasets import registered
from api.hub.commits.drafts import Draft, Made, is_whole, written
from api.hub.commits.licences import license_of
from api.hub.commits.reading import reading
from api.hub.contents import Content, stored
from api.hub.pushes import find_push
from api.hub.reading import snapshots
from api.hub.repositories import Repository
from api.inspection_cache import new_folder
from api.parts import Parts
from api.registry.imported_files import ADAPTER_CONFIG, CONFIG, INDEX
from jobspecs.manifest import Manifest, ModelOrigin
from jobspecs.problems import InvalidInput, Problem
from jobspecs.rights import Principal
from storage.database_errors import DatabaseUnavailable
from storage.objects import ObjectStoreError, TransferStopped
from storage.tables import HubPushRow

log = logging.getLogger(__name__)

#: Seconds after which a push that is whole is over, though files that its client spoke of have not come.
QUIET_S = 60.0
#: Seconds between two looks for such pushes, and after which one that still waits for a part is looked at no more: its
#: next commit does that. A process that begins looks at those of a day.
CLOSE_EVERY_S = 15.0
_LOOKED_AT_S = 4 * QUIET_S
_LOOKED_AT_FIRST_S = 24 * 3600.0


async def version_of(
    parts: Parts, request: Request | None, user: Principal, repository: Repository, draft: Draft
) -> Made | None:
    """None while something of it is to come. Raises InvalidInput for what can't be a version."""
    if draft.awaited or not is_whole(repository.kind, draft.files):
        return None
    if repository.kind == "datasets":
        return Made(commit=await registered(parts, request, user, repository, draft.files))
    folder = new_folder(parts.spool.folder)
    try:
        await parts.lookups.run(partial(_fetch, parts, draft, folder))
        read = partial(_read, parts, request, user, {"folder": folder.resolve()})
        if INDEX in draft.files:
            shards = await read("shards")
            if not set(shards) <= set(draft.files):
                return None
        task = await read("import", paths=list(draft.files))
        license = await parts.lookups.run(partial(license_of, parts, draft.files))
        if CONFIG in draft.files or ADAPTER_CONFIG not in draft.files:
            return Made(task, license=license)
        named = await read("adapter")
        return replace(await parts.lookups.run(partial(_adapter, parts, user, **named)), license=license)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def close_now(parts: Parts, request: Request | None, user: Principal, repository: Repository) -> None:
    """Makes a version of the push as it stands. Raises what `version_of` raises."""
    draft = await parts.lookups.run(partial(_as_it_stands, parts, user, repository))
    if draft is None:
        return
    made = await version_of(parts, request, user, repository, draft)
    if made is not None:
        await parts.lookups.run(partial(written, parts, user, repository, draft, made))


async def close_quiet(parts: Parts, *, first: bool = False) -> None:
    """Ends pushes that are whole and quiet. `first`: this process has not looked before."""
    try:
        rows = await parts.lookups.run(partial(_quiet, parts, _LOOKED_AT_FIRST_S if first else _LOOKED_AT_S))
    except (DatabaseUnavailable, ApiError) as error:
        log.warning("pushes that are over could not be looked for: %s", error)
        return
    for row in rows:
        user = Principal(row.owner_id, row.owner.name, frozenset({"write"}), frozenset({row.owner_id}))
        repository = _repository(row)
        try:
            await close_now(parts, None, user, repository)
        except (InvalidInput, ApiError, DatabaseUnavailable, ObjectStoreError, TransferStopped) as error:
            # Its client was told nothing of it and is gone: a commit that mends it is told.
            log.warning("the push of %s can't become a version: %s", repository, error)


def _quiet(parts: Parts, at_most_s: float) -> list[HubPushRow]:
    with parts.database.unit_of_work() as work:
        work.hub_pushes.sweep()
        rows = work.hub_pushes.quiet(QUIET_S, at_most_s)
    return [row for row in rows if is_whole(_repository(row).kind, row.files)]


def _repository(row: HubPushRow) -> Repository:
    return Repository("models" if row.kind == "models" else "datasets", row.owner.name, row.name)


def _as_it_stands(parts: Parts, user: Principal, repository: Repository) -> Draft | None:
    with parts.database.unit_of_work() as work:
        push = find_push(work, user, repository)
        if push is None or not is_whole(repository.kind, push.files):
            return None
        return Draft(
            files={path: Content.model_validate(document) for path, document in push.files.items()},
            written=frozenset(push.written),
            awaited=frozenset(),
            commits=push.commits,
            version=snapshots.snapshot(work, user, repository).version,
        )


def _fetch(parts: Parts, draft: Draft, folder: Path) -> None:
    """What is read of a model's files."""
    wanted = [(path, draft.files[path]) for path in (CONFIG, INDEX, ADAPTER_CONFIG) if path in draft.files]
    for path, file in stored(parts, wanted).items():
        parts.objects.download_stored(file, folder / path)


async def _read(
    parts: Parts, request: Request | None, user: Principal, about: dict[str, Any], task: str, **more: Any
) -> Any:
    """What a confined task finds. Raises InvalidInput, ApiError."""
    work = partial(parts.confinement.run, task, {**about, **more}, FILE_LIMITS)
    return await reading(parts, request, user, CONFIG, MODEL_REMEDY, work)


def _adapter(parts: Parts, user: Principal, base: str, revision: str | None) -> Made:
    """Raises InvalidInput where its base isn't here: nothing could serve it."""
    owner, _, name = base.partition("/")
    try:
        with parts.database.unit_of_work() as work:
            found = snapshots.model_at(work, user, Repository("models", owner, name), revision or "main")
    except ApiError as error:
        message = f"its base {base!r}{f' at {revision!r}' if revision else ''} is no model that you have here."
        remedy = "Push the base first, and name it owner/name in base_model_name_or_path, its version in revision."
        raise InvalidInput([Problem(file=ADAPTER_CONFIG, message=message, remedy=remedy)]) from error
    origin = ModelOrigin(reference=f"{base}@{found.version}", digest=found.digest)
    return Made(Manifest.model_validate(found.manifest).task, origin)
