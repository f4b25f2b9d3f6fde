"""Commits: what they bring is checked and stored, and the last one of a push makes a version of it.

A push is over when a commit leaves a version that is whole, and nothing is missing that the client said it would send;
or when a version that is whole has been left alone for a while (`api.hub.commits.closing`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from fastapi import Request

from api.errors import ApiError
from api.foreign_files import MODEL_REMEDY, transferring
from api.hub.commits import closing
from api.hub.commits.commit_body import Commit, LargeFile
from api.hub.commits.drafts import ABANDONED_S, Draft, is_whole, written
from api.hub.contents import Content, keep, stored
from api.hub.pushed_files import check_path, is_left_out
from api.hub.pushes import current_files, find_push, has_begun, known, owner_of
from api.hub.reading import snapshots
from api.hub.repositories import Repository
from api.hub.routes import unknown_repository
from api.hub.transfers.uploads import note
from api.inspection_cache import new_folder
from api.parts import Parts
from api.registry import importing
from api.registry.gguf_header import HEADER_BYTES_MAX
from api.registry.imported_files import SAFETENSORS_HEADER_BYTES_MAX, TOKENIZER_BYTES_MAX
from api.streaming import Received
from jobspecs.manifest import sha256_of
from jobspecs.pieces import StoredFile
from jobspecs.rights import Principal
from storage.tables import HubPushRow

#: Bytes of a file that its check looks at, by ending: the header of weights; of others all there may be of them.
_LOOKED_AT_BYTES = {".safetensors": SAFETENSORS_HEADER_BYTES_MAX + 8, ".gguf": HEADER_BYTES_MAX}
#: Times that a commit is tried anew because another one came first.
_TRIES = 5


async def apply(parts: Parts, request: Request, user: Principal, repository: Repository, wanted: Commit) -> str:
    """The commit's id, which is a version's where it made one.

    Raises ApiError 404, 409, 412, 422 and InvalidInput, and changes nothing then.
    """
    paths = sorted(path for path in wanted.written if not is_left_out(path))
    for path in paths:
        check_path(repository.kind, path)
    async with transferring(request, parts.stopping) as should_stop:
        await parts.transfers.run(partial(_adopt, parts, user, repository, should_stop))
        brought = await _brought(parts, request, user, repository, wanted, paths, should_stop)
        for _ in range(_TRIES):
            draft = await parts.lookups.run(partial(_draft, parts, user, repository, wanted, brought))
            if draft is None:
                # Another push of this name is whole: it becomes a version first.
                await closing.close_now(parts, request, user, repository)
                continue
            made = await closing.version_of(parts, request, user, repository, draft)
            done = await parts.lookups.run(partial(written, parts, user, repository, draft, made))
            if done is not None:
                return done
    raise ApiError(409, f"Others push to {repository} all the time. Try again.", code="push_under_way")


async def _brought(
    parts: Parts,
    request: Request,
    user: Principal,
    repository: Repository,
    wanted: Commit,
    paths: list[str],
    should_stop: Callable[[], bool],
) -> dict[str, Content]:
    """Path -> content of what the commit writes, checked and stored."""
    folder = new_folder(parts.spool.folder)
    try:
        there = await parts.lookups.run(partial(_sent, parts, user, repository, wanted, paths))
        found = {path: there[wanted.large[path].sha256] for path in paths if path in wanted.large}
        large = await parts.lookups.run(partial(stored, parts, list(found.items())))
        for number, path in enumerate(paths):
            file = folder / str(number)
            if path in wanted.small:
                file.write_bytes(wanted.small[path])
            elif repository.kind == "models":
                await parts.transfers.run(partial(_fetch_beginning, parts, large[path], file))
            if repository.kind == "models":
                check = partial(importing.check, parts, path, Received(file, file.stat().st_size, ""))
                await parts.readings.read(request, user.user_id, path, MODEL_REMEDY, check)
            if path in wanted.small:
                found[path] = await parts.transfers.run(partial(_keep_small, parts, file, should_stop))
            file.unlink(missing_ok=True)
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sent(
    parts: Parts, user: Principal, repository: Repository, wanted: Commit, paths: list[str]
) -> dict[str, Content]:
    """sha256 -> content of what the commit names by its sum. Raises ApiError 422 for what was never sent."""
    named = {path: wanted.large[path] for path in paths if path in wanted.large}
    with parts.database.unit_of_work() as work:
        owner_of(work, user, repository)
        if not snapshots.exists(work, user, repository):
            raise unknown_repository(repository)
        there = known(work, user, repository, [large.sha256 for large in named.values()])
    for path, large in named.items():
        _check_sent(path, large, there.get(large.sha256))
    return there


def _adopt(parts: Parts, user: Principal, repository: Repository, should_stop: Callable[[], bool]) -> None:
    """Stores a version from before there were pieces anew, so that a next one can share its files."""
    with parts.database.unit_of_work() as work:
        owner_id = owner_of(work, user, repository)
        newest = work.models.find(user.reach(repository.writing), repository.reference)
        if repository.kind != "models" or newest is None or newest.prefix is None:
            return
        files = work.blobs.files_of(newest)
        there = work.hub_pushes.uploaded(owner_id, [file.sha256 for file in files])
    folder = new_folder(parts.spool.folder)
    try:
        for file in files:
            if file.sha256 not in there:
                parts.objects.download_stored(file, folder / "content", should_stop=should_stop)
                note(parts, owner_id, keep(parts, folder / "content", file.sha256, should_stop))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_sent(path: str, large: LargeFile, content: Content | None) -> None:
    if content is None:
        message = f"{path}: its content, {large.sha256}, was named and never sent. Upload it, then commit again."
        raise ApiError(422, message, code="never_sent", param=path)
    if content.bytes != large.size_bytes:
        message = f"{path} has {content.bytes} bytes, not {large.size_bytes}. Upload it again."
        raise ApiError(422, message, code="other_size", param=path)


def _fetch_beginning(parts: Parts, file: StoredFile, target: Path) -> None:
    """As much as its check looks at. The rest of the file is a hole: its size is what it is."""
    looked_at = _LOOKED_AT_BYTES.get(PurePosixPath(file.path).suffix.lower(), TOKENIZER_BYTES_MAX)
    with target.open("wb") as copy:
        if file.bytes:
            with parts.objects.open_stored(file, 0, min(file.bytes, looked_at)) as chunks:
                for chunk in chunks:
                    copy.write(chunk)
        copy.truncate(file.bytes)


def _keep_small(parts: Parts, file: Path, should_stop: Callable[[], bool]) -> Content:
    return keep(parts, file, sha256_of(file), should_stop)


def _draft(
    parts: Parts, user: Principal, repository: Repository, wanted: Commit, brought: dict[str, Content]
) -> Draft | None:
    """The push after this commit; None when another one, which is whole, must become a version first.

    Raises ApiError 404, 409 while another push is half done, 412 when it shall follow another commit than the newest.
    """
    with parts.database.unit_of_work() as work:
        newest = snapshots.snapshot(work, user, repository)
        if wanted.parent and not newest.commit.startswith(wanted.parent):
            raise ApiError(412, f"The newest commit of {repository} is {newest.commit}, not {wanted.parent[:40]}.")
        push = find_push(work, user, repository)
        begun = has_begun(work, push)
        if push is not None and begun and _rewrites(push, brought):
            if is_whole(repository.kind, push.files):
                return None
            if not work.hub_pushes.is_quiet(push, ABANDONED_S):
                message = f"Another push to {repository} is under way. Push again when it has ended."
                raise ApiError(409, message, code="push_under_way")
            begun = False
        before = current_files(work, user, repository, begun=begun)
        announced = frozenset(push.announced) if push is not None else frozenset()
        written = frozenset(push.written) if push is not None and begun else frozenset()
        return Draft(
            files={path: content for path, content in before.items() if not wanted.deletes(path)} | brought,
            written=written | frozenset(brought),
            awaited=announced - frozenset(brought),
            commits=push.commits if push is not None else 0,
            version=newest.version,
        )


def _rewrites(push: HubPushRow, brought: Mapping[str, Content]) -> bool:
    """Whether it writes other content where this push has written: no client sends a file twice in one push."""
    return any(path in push.written and push.files[path]["sha256"] != brought[path].sha256 for path in brought)
