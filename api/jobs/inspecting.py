"""Looks at a job's data and models before it is queued: will it work, is it wasteful, how large is it?

It waits for the object store and reads files, so it runs between transactions. Whatever can't be had now is left to the
worker, which checks the data in the job's first stage: a slow store must not keep anybody from submitting.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import anyio.from_thread
from starlette.requests import ClientDisconnect

from api.errors import ApiError, is_disk_full
from api.inspection_cache import new_folder
from api.parts import Parts
from api.references.freezing import Frozen
from api.references.model_files import known_shape, small_files
from corpus.checks.confined import check_confined
from corpus.checks.rows import CheckedFile, told_apart
from corpus.checks.settings import settings_by_profile, settings_of, warnings_of_settings
from corpus.confinement.confinement import ConfinementUnavailable, Stopped
from corpus.confinement.process import Overran, TaskFailed
from jobspecs.data_report import DataReport
from jobspecs.estimate import Estimate
from jobspecs.frozen import FrozenDataset, FrozenInputs
from jobspecs.kinds.base import ADAPTER_BASE_SUFFIX, BASE_ROLE
from jobspecs.problems import Problem
from jobspecs.registry import JobSpec
from scheduling.estimates.data import facts_of_bound, facts_of_report
from scheduling.estimates.estimating import KnownModel, estimate
from storage.objects import ObjectStore, ObjectStoreError, TransferStopped
from storage.tabular import detect_format

log = logging.getLogger(__name__)

#: Seconds to wait for other checks to end.
_PATIENCE_S = 5.0
#: What of a spec has no say in how its data are read.
_IRRELEVANT = {"name", "priority", "resources"}


@dataclass(frozen=True)
class Inspected:
    """`report` is None for kinds without data. `checked`: nothing about the data is left for the worker to find."""

    report: DataReport | None
    estimate: Estimate
    checked: bool


#: Operations per second of earlier jobs of the kind: on the same base model, and on others where there are none.
Speeds = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Asking:
    """Who asks, and whether they have left."""

    user_id: UUID
    gone: Callable[[], bool]


def inspect(parts: Parts, asking: Asking, spec: JobSpec, frozen: Frozen, speeds: Speeds) -> Inspected:
    """Takes at most the time of `ApiSettings.check_seconds_max` and a few downloads. Raises nothing for bad data.

    Raises ClientDisconnect: the check ends with its client. For a thread that the event loop waits for.
    """
    objects = parts.objects.within(parts.settings.check_seconds_max)
    folders = {
        role: small_files(parts, objects, model, asking.user_id) for role, model in frozen.inputs.by_role().items()
    }
    report = _report(parts, asking, objects, spec, frozen, _reading_folder(folders))
    if report is not None and not report.complete and frozen.profile is not None:
        settings = {**report.settings, **settings_by_profile(spec, frozen.profile)}
        report = report.model_copy(update={"settings": settings})
    return Inspected(report, _estimate(parts, spec, frozen, folders, report, speeds), report is None or report.complete)


def _report(
    parts: Parts, asking: Asking, objects: ObjectStore, spec: JobSpec, frozen: Frozen, folder: Path | None
) -> DataReport | None:
    dataset = frozen.inputs.dataset
    if dataset is None:
        return None
    if sum(given.bytes for given in frozen.inputs.datasets()) > parts.settings.check_bytes_max:
        return _later(spec, frozen, "the data set is large")
    key = _key(spec, frozen)
    if (known := parts.inspections.report(key)) is not None:
        return known
    try:
        report = _read(parts, asking, objects, spec, frozen.inputs, folder)
    except ApiError as error:
        log.info("data set %s is not checked now: %s", dataset.version_id, error.detail)
        return _later(spec, frozen, "other data sets are being checked")
    except (ObjectStoreError, TransferStopped) as error:
        log.warning("data set %s can't be checked now: %s", dataset.version_id, error)
        return _later(spec, frozen, "the object store does not give it out in time")
    except OSError as error:
        log.warning("data set %s can't be checked here: %s", dataset.version_id, error)
        return _later(spec, frozen, "the server's disk is full" if is_disk_full(error) else str(error.strerror))
    except (Overran, Stopped, ConfinementUnavailable) as error:
        log.warning("the check of data set %s was not finished: %s", dataset.version_id, error)
        return _later(spec, frozen, "checking it with this model takes too much time or memory")
    except TaskFailed:
        log.exception("the check of data set %s failed", dataset.version_id)
        return _later(spec, frozen, "checking it with this model failed")
    if report is not None and report.complete and folder is not None:
        parts.inspections.keep_report(key, report)
    return report


def _read(
    parts: Parts, asking: Asking, objects: ObjectStore, spec: JobSpec, inputs: FrozenInputs, folder: Path | None
) -> DataReport | None:
    """Fetches the files, then waits for a place to read it: nobody holds one while a store is slow."""
    seconds = parts.settings.check_seconds_max
    overdue = _overdue_after(seconds)
    place = new_folder(parts.spool.folder)
    try:
        files = {
            role: _fetched(objects, given, place, lambda: asking.gone() or overdue())
            for role, given in inputs.datasets_by_role().items()
        }
        files = told_apart(files, {role: given.reference for role, given in inputs.datasets_by_role().items()})
        check = partial(
            check_confined,
            parts.confinement,
            spec,
            files["dataset"],
            folder,
            seconds=seconds,
            should_stop=asking.gone,
            held_out=files.get("held_out"),
            test=files.get("test"),
        )
        admitted = partial(parts.checks.run, asking.user_id, check, patience_s=_PATIENCE_S)
        return anyio.from_thread.run(admitted)
    except (TransferStopped, Stopped) as error:
        if asking.gone():
            raise ClientDisconnect from error
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _fetched(objects: ObjectStore, dataset: FrozenDataset, place: Path, should_stop: Callable[[], bool]) -> CheckedFile:
    """In a folder of its own: two data sets may have been pushed under one file name."""
    folder = place / str(dataset.version_id)
    folder.mkdir(exist_ok=True)
    name = Path(dataset.file_name).name
    objects.download_file(
        dataset.key, folder / name, sha256=dataset.sha256, bytes_total=dataset.bytes, should_stop=should_stop
    )
    return CheckedFile(folder / name, detect_format(name, dataset.how_to_read()), dataset.file_name)


def _overdue_after(seconds: float) -> Callable[[], bool]:
    deadline_s = time.monotonic() + seconds
    return lambda: time.monotonic() > deadline_s


def _later(spec: JobSpec, frozen: Frozen, why: str) -> DataReport:
    message = f"{why}: it is checked as the job's first stage, before a model is loaded."
    return report_of_profile(spec, frozen, warnings=[Problem(field="dataset", message=message)])


def report_of_profile(
    spec: JobSpec, frozen: Frozen, *, problems: Sequence[Problem] = (), warnings: Sequence[Problem] = ()
) -> DataReport:
    """A report of what the profile tells alone."""
    rows = frozen.profile.rows if frozen.profile is not None else 0
    return DataReport(
        kind=spec.kind,
        file=frozen.inputs.dataset.file_name if frozen.inputs.dataset is not None else "",
        rows=rows,
        usable=rows,
        complete=False,
        settings=settings_of(spec),
        problems=tuple(problems),
        warnings=(*warnings_of_settings(spec), *warnings),
    )


def _reading_folder(folders: dict[str, Path | None]) -> Path | None:
    """The files of the model that reads the data: the base, an adapter's own base, or the only one there is."""
    wanted = (BASE_ROLE, BASE_ROLE + ADAPTER_BASE_SUFFIX, *folders)
    found = [folders[role] for role in wanted if folders.get(role) is not None]
    return next(
        (folder for folder in found if folder and (folder / "tokenizer.json").is_file()), next(iter(found), None)
    )


def _estimate(
    parts: Parts,
    spec: JobSpec,
    frozen: Frozen,
    folders: dict[str, Path | None],
    report: DataReport | None,
    speeds: Speeds,
) -> Estimate:
    models = {
        role: KnownModel(
            known_shape(parts, folders.get(role + ADAPTER_BASE_SUFFIX) or folders[role]),
            frozen.weights_bytes.get(role),
        )
        for role in spec.model_references()
    }
    rows = frozen.profile.rows if frozen.profile is not None else 1
    facts = facts_of_report(report, rows) if report is not None else None
    return estimate(spec, models, facts or facts_of_bound(rows, spec.batch_shape(frozen.profile)[1]), *speeds)


def _key(spec: JobSpec, frozen: Frozen) -> str:
    datasets = [dataset.model_dump_json() for dataset in frozen.inputs.datasets()]
    models = [model.model_dump_json() for model in frozen.inputs.by_role().values()]
    told = [*datasets, *models, spec.model_dump_json(exclude=_IRRELEVANT)]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()
