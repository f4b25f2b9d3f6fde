"""Fetches data sets and models, verifies them, and keeps them for whoever needs the same bytes next on this host.

The cache holds files by their sha256. Jobs and deployments get hard links: the agent and the inference worker share one
folder, and each byte lies on the disk once. A file with another link is in use, and is not trimmed. What comes from the
cache is hashed again on every use (1.5 GB/s): a disk may have changed it, or an earlier job.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from jobspecs.frozen import FrozenDataset, FrozenHubModel, FrozenInputs, FrozenModel, FrozenRegistryModel
from jobspecs.kinds.base import BASE_ROLE
from jobspecs.manifest import Manifest, ManifestFile, check_relative_path, sha256_of
from jobspecs.pieces import StoredFile
from storage.objects import ObjectStore, TransferStopped
from workers.files.hub import HubAccess, HubUnavailable, blob_path, check_arrived, fetch_snapshot, sums_of
from workers.run.context import RunFailed

log = logging.getLogger(__name__)

ShouldStop = Callable[[], bool]

#: Seconds between two questions to `should_stop` while somebody else fetches the same thing.
_LOOK_S = 0.2
#: Seconds for which one that makes room is waited for: it takes milliseconds, unless it hangs.
_TRIM_WAIT_S = 5.0
#: Seconds since its beginning for which a broken download from a hub may be gone on with.
_RESUMED_S = 24 * 3600.0
#: Files of a model that are fetched, or hashed, side by side: twelve of 0.1 s each come in 0.3 s instead of 1.2 s.
_FILES_AT_ONCE = 4


@dataclass(frozen=True)
class PlacedInputs:
    """Where an attempt finds its inputs."""

    #: The data set's one file; None when the job reads none.
    dataset: Path | None
    #: The files of the data sets of the sections `validation` and `test`, where they name one.
    held_out: Path | None = None
    test: Path | None = None
    #: Role -> folder of the model.
    models: dict[str, Path] = field(default_factory=dict)

    @property
    def base(self) -> Path | None:
        """The folder of the model that the job starts from."""
        return self.models.get(BASE_ROLE)


class HostCache:
    """The folder `root`. Threads and processes may use it at once: each waits only for what it needs itself.

    `should_stop` is asked while something is fetched or waited for; then TransferStopped. Not during a hub's download.
    """

    def __init__(self, root: Path, store: ObjectStore, *, bytes_max: int) -> None:
        self._root = root
        self._files = root / "sha256"
        #: What a hub's repository consists of at a commit; the files themselves lie with all others.
        self._hub = root / "hub"
        self._incoming = root / "incoming"
        self._locks = root / "locks"
        self._store = store
        self._bytes_max = bytes_max
        for folder in (self._files, self._hub, self._incoming, self._locks):
            folder.mkdir(parents=True, exist_ok=True)
        self._remove_broken_downloads()

    def place_inputs(
        self, inputs: FrozenInputs, folder: Path, *, should_stop: ShouldStop, access: HubAccess | None = None
    ) -> PlacedInputs:
        """Puts data set and models below `folder`, each model in a folder with its role's name.

        `access`: to a hub, of whoever the inputs are for.

        Raises ObjectNotFound, ObjectCorrupt, ObjectStoreUnavailable, ObjectStoreRefused, HubUnavailable, RunFailed
        (the hub's model is unusable), TransferStopped, OSError (ENOSPC: disk full).
        """
        datasets = {
            role: self.place_dataset(given, folder / role, should_stop=should_stop)
            for role, given in inputs.datasets_by_role().items()
        }
        models = {role: folder / role for role in inputs.by_role()}
        for role, model in inputs.by_role().items():
            self.place_any_model(model, models[role], should_stop=should_stop, access=access)
        return PlacedInputs(datasets.get("dataset"), datasets.get("held_out"), datasets.get("test"), models)

    def place_any_model(
        self, model: FrozenModel, folder: Path, *, should_stop: ShouldStop, access: HubAccess | None = None
    ) -> None:
        """A model of the registry or of a hub."""
        if isinstance(model, FrozenHubModel):
            self.place_hub_model(model, folder, should_stop=should_stop, access=access)
        else:
            self.place_model(model, folder, should_stop=should_stop)

    def place_dataset(self, dataset: FrozenDataset, folder: Path, *, should_stop: ShouldStop) -> Path:
        """The data set's one file, under the name it was pushed under: its suffix tells the format."""
        name = Path(check_relative_path(dataset.file_name)).name
        file = ManifestFile(path=name, bytes=dataset.bytes, sha256=dataset.sha256)
        self._place(StoredFile.whole(dataset.key, file), folder / name, should_stop)
        return folder / name

    def place_model(self, model: FrozenRegistryModel, folder: Path, *, should_stop: ShouldStop) -> None:
        """A registered model's files."""
        self.place_files(model.stored, folder, should_stop=should_stop)

    def place_files(self, files: Sequence[StoredFile], folder: Path, *, should_stop: ShouldStop) -> None:
        """The files of an artifact; a few at once, and none after an error."""
        errors: list[BaseException] = []

        def place(file: StoredFile) -> None:
            if errors:
                return
            try:
                target = folder / check_relative_path(file.path)
                self._place(file, target, lambda: bool(errors) or should_stop())
            except BaseException as error:
                errors.append(error)
                raise

        with ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="place-files") as pool:
            wait([pool.submit(place, file) for file in files], return_when=FIRST_EXCEPTION)
            pool.shutdown(wait=True, cancel_futures=True)
        if errors:
            raise errors[0]

    def place_hub_model(
        self,
        model: FrozenHubModel,
        folder: Path,
        *,
        should_stop: ShouldStop,
        endpoint: str | None = None,
        access: HubAccess | None = None,
    ) -> None:
        """A hub's repository at a commit. It is fetched whole unless every file is here and intact.

        `access` is used for what the hub refuses without it, and what it opens is kept for that user alone.
        """
        name = f"{model.repository.replace('/', '--')}@{model.revision}" + (f"--{model.gguf}" if model.gguf else "")
        with self._alone(name, should_stop):
            own = f"{name}--{access.owner_id}" if access is not None else name
            if not any(self._place_known_snapshot(self._hub / f"{one}.json", folder) for one in {name, own}):
                try:
                    self._fetch_snapshot(model, name, folder, endpoint)
                except RunFailed:
                    if access is None:
                        raise
                    self._fetch_snapshot(model, own, folder, endpoint, access.token)
        self.trim()

    def _fetch_snapshot(
        self, model: FrozenHubModel, name: str, folder: Path, endpoint: str | None, token: str | None = None
    ) -> None:
        incoming = self._incoming / name
        # An earlier revision may have had the same weights, or another repository.
        for file in sums_of(model, endpoint=endpoint, token=token):
            with suppress(FileExistsError):
                self._take(file, blob_path(model, incoming, file.sha256))
        try:
            self._keep_snapshot(fetch_snapshot(model, incoming, endpoint=endpoint, token=token), name, folder)
        except HubUnavailable:
            raise  # the next attempt takes the download up where it broke off
        except BaseException:
            shutil.rmtree(incoming, ignore_errors=True)
            raise
        shutil.rmtree(incoming)

    def _place_known_snapshot(self, description: Path, folder: Path) -> bool:
        if not description.is_file():
            return False
        files = Manifest.model_validate_json(description.read_bytes()).files
        if all(self._take(file, folder / file.path) for file in files):
            return True
        shutil.rmtree(folder, ignore_errors=True)
        return False

    def _keep_snapshot(self, snapshot: Path, name: str, folder: Path) -> None:
        """Gives the attempt and the cache links to the files, and notes what there is."""
        files = []
        # The hub's own cache holds links to its blobs.
        for path in (path for path in sorted(snapshot.rglob("*")) if path.is_file()):
            target = folder / path.relative_to(snapshot)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path.resolve())
            file = ManifestFile(
                path=path.relative_to(snapshot).as_posix(), bytes=target.stat().st_size, sha256=sha256_of(target)
            )
            check_arrived(path, file.sha256)
            self._keep(target, file)
            files.append(file)
        temporary = self._incoming / f"{name}.json"
        temporary.write_text(Manifest(artifact="model", files=tuple(files)).model_dump_json(), encoding="utf-8")
        temporary.replace(self._hub / f"{name}.json")

    def _place(self, file: StoredFile, target: Path, should_stop: ShouldStop) -> None:
        with self._alone(file.sha256, should_stop):
            if not self._take(file, target):
                self.trim(file.bytes)
                self._store.download_stored(file, target, should_stop=should_stop)
                self._keep(target, file)

    def _take(self, file: ManifestFile, target: Path) -> bool:
        """Links the cached file to `target`; False when there is none that is intact."""
        cached = self._files / file.sha256
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Linked before it is looked at: from now on somebody else's trimming can't take it away.
            target.hardlink_to(cached)
        except FileNotFoundError:
            return False
        if target.stat().st_size == file.bytes and sha256_of(target) == file.sha256:
            os.utime(target)
            return True
        log.warning("cache: %s is damaged on this disk; it is fetched again", cached.name)
        target.unlink()
        cached.unlink(missing_ok=True)
        return False

    def _keep(self, target: Path, file: ManifestFile) -> None:
        """Makes a verified file of an attempt one of the cache."""
        target.chmod(0o444)
        cached = self._files / file.sha256
        cached.unlink(missing_ok=True)
        try:
            cached.hardlink_to(target)
        except FileExistsError:
            log.info("cache: %s was fetched twice at the same time", cached.name)

    @contextmanager
    def _alone(self, name: str, should_stop: ShouldStop) -> Iterator[None]:
        """Of all that need `name`, one at a time passes: the others find it in the cache afterwards."""
        with self._lock_of(name).open("w", encoding="ascii") as lock:
            while not _locked(lock):
                if should_stop():
                    raise TransferStopped(f"Waiting for {name} was stopped.")
                time.sleep(_LOOK_S)
            yield

    def _lock_of(self, name: str) -> Path:
        """One of 4,096 files, which stay: one that is deleted could be locked twice. The dead hold none."""
        return self._locks / hashlib.sha256(name.encode()).hexdigest()[:3]

    def _remove_broken_downloads(self) -> None:
        """Those of a dead worker, but not those that the host's other worker is busy with.

        Nor what a hub's client can go on with: it knows what it has of a repository.
        """
        for path in self._incoming.iterdir():
            if _may_go_on(path):
                continue
            with self._lock_of(path.name.removesuffix(".json")).open("w", encoding="ascii") as lock:
                if _locked(lock):
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def trim(self, needed_bytes: int = 0) -> None:
        """Deletes the files unused for longest until `needed_bytes` more fit; what is in use stays."""
        with (self._locks / "trim").open("w", encoding="ascii") as lock:
            waits_until_s = time.monotonic() + _TRIM_WAIT_S
            while not _locked(lock):
                if time.monotonic() >= waits_until_s:
                    log.warning("cache: somebody else has made room for %.0f s; it grows meanwhile", _TRIM_WAIT_S)
                    return
                time.sleep(_LOOK_S)
            files = sorted(self._entries(), key=lambda entry: entry[1].st_mtime)
            total = sum(status.st_size for _, status in files) + needed_bytes
            for path, status in files:
                if total <= self._bytes_max:
                    return
                # Somebody has a link to it: deleting this one would free nothing, and the next would fetch it again.
                if status.st_nlink > 1:
                    continue
                total -= status.st_size
                log.info("cache: %s makes room", path.name)
                path.unlink(missing_ok=True)

    def _entries(self) -> list[tuple[Path, os.stat_result]]:
        entries = []
        for path in self._files.iterdir():
            # Somebody else may have found it damaged, and deleted it, since the folder was read.
            with suppress(FileNotFoundError):
                entries.append((path, path.stat()))
        return entries


def _may_go_on(path: Path) -> bool:
    """Whether it is a hub's download that was begun a short while ago."""
    is_hubs = next(path.glob("models--*"), None) is not None
    return is_hubs and time.time() - path.stat().st_mtime < _RESUMED_S


def _locked(lock: TextIO) -> bool:
    """Whether the file is locked now, for this opening of it: other threads and processes are kept out alike."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
