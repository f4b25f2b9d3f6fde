"""The data of a run as its loaders read them."""

from __future__ import annotations

from corpus.checks.rows import CheckedFile, told_apart
from corpus.held_out import DataPart, parts_of
from jobspecs.kinds.training import TrainingSpec
from jobspecs.lifecycle import Reason
from jobspecs.manifest import DatasetOrigin
from jobspecs.problems import InvalidInput
from workers.run.context import RunContext, RunFailed


def data_files(context: RunContext) -> tuple[CheckedFile, CheckedFile | None, CheckedFile | None]:
    """The data set, and those of the sections `validation` and `test` where these name one.

    Raises RunFailed(invalid_dataset).
    """
    try:
        files = {"dataset": CheckedFile.of(context.data, context.dataset_dialect)}
        if context.held_out_path is not None:
            files["held_out"] = CheckedFile.of(context.held_out_path, context.held_out_dialect)
        if context.test_path is not None:
            files["test"] = CheckedFile.of(context.test_path, context.test_dialect)
        named = told_apart(files, {role: origin.reference for role, origin in context.datasets.items()})
        return named["dataset"], named.get("held_out"), named.get("test")
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error


def data_parts(context: RunContext, spec: TrainingSpec) -> tuple[DataPart, ...]:
    """The files and which of their rows choose or judge. Raises RunFailed(invalid_dataset)."""
    try:
        return parts_of(*data_files(context), spec)
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error


def judging_dataset(context: RunContext, spec: TrainingSpec) -> DatasetOrigin:
    """The data set whose rows judge."""
    own, roles = spec.judging_rows.dataset, {"validation": "held_out", "test": "test"}
    role = "dataset" if own is None else roles[spec.judging_part]
    return context.datasets.get(role) or DatasetOrigin(reference=own or str(spec.dataset_reference()))
