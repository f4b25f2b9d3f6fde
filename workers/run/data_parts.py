"""The data of a run as its loaders read them."""

from __future__ import annotations

from corpus.checks.rows import CheckedFile
from corpus.held_out import DataPart, parts_of
from jobspecs.kinds.training import Validation
from jobspecs.lifecycle import Reason
from jobspecs.manifest import DatasetOrigin
from jobspecs.problems import InvalidInput
from workers.run.context import RunContext, RunFailed


def data_files(context: RunContext) -> tuple[CheckedFile, CheckedFile | None]:
    """The data set and, where it is one of its own, the one whose rows judge. Raises RunFailed(invalid_dataset)."""
    try:
        held_out = context.held_out_path
        return (
            CheckedFile.of(context.data, context.dataset_dialect),
            CheckedFile.of(held_out, context.held_out_dialect) if held_out is not None else None,
        )
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error


def data_parts(context: RunContext, validation: Validation) -> tuple[DataPart, ...]:
    """The files and which of their rows judge. Raises RunFailed(invalid_dataset)."""
    try:
        return parts_of(*data_files(context), validation)
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error


def judging_dataset(context: RunContext, validation: Validation) -> DatasetOrigin:
    """The data set whose rows judge."""
    role, reference = ("held_out", validation.dataset) if validation.dataset else ("dataset", None)
    return context.datasets.get(role) or DatasetOrigin(reference=reference or str(context.spec.dataset_reference()))
