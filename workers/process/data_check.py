"""The first stage of a job whose data set was too large to be checked when it was submitted."""

from __future__ import annotations

from pathlib import Path

from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from jobspecs.events import LOG_LINE_CHARS_MAX, LogEvent, StageEvent
from jobspecs.kinds.base import ADAPTER_BASE_SUFFIX, BASE_ROLE
from jobspecs.lifecycle import Reason
from workers.run.context import RunContext, RunFailed, RunStopped
from workers.run.data_parts import data_files


def check_before_running(context: RunContext) -> None:
    """Reads the data set once, before any model is loaded; warnings go to the job's log.

    Raises RunFailed(invalid_dataset) when the job can't work with it, and RunStopped when asked to stop.
    """
    # A checkpoint means that an earlier attempt got past this stage.
    if context.dataset_path is None or context.resume_from is not None:
        return
    context.emit(StageEvent(stage="check"))
    file, *others = data_files(context)
    report = check_data(context.spec, file, Reader.load(_reading_folder(context)), context.stop_requested, *others)
    if report is None:
        return
    if not report.complete:
        raise RunStopped
    for warning in report.warnings:
        context.emit(LogEvent(level="warning", message=str(warning)[:LOG_LINE_CHARS_MAX]))
    if report.problems:
        raise RunFailed(Reason.invalid_dataset, "; ".join(str(problem) for problem in report.problems))


def _reading_folder(context: RunContext) -> Path | None:
    """The model that reads the data: the base, the base of an adapter without a tokenizer, or the only one there is."""
    folders = [context.model_dir, context.models.get(BASE_ROLE + ADAPTER_BASE_SUFFIX), *context.models.values()]
    found = [folder for folder in folders if folder is not None]
    return next((folder for folder in found if (folder / "tokenizer.json").is_file()), next(iter(found), None))
