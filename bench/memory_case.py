"""One job in a fresh process: what was estimated for it, and the peak of memory that it reached. For `memory_estimate`.

Everything that a worker's zygote has imported is imported first, so both figures are of the job alone.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import sklearn.feature_extraction.text
import sklearn.svm

from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile
from jobspecs.dialect import named_columns
from jobspecs.events import ChildEvent
from jobspecs.kinds.base import SpecBase
from jobspecs.manifest import ModelOrigin
from jobspecs.registry import parse_spec
from scheduling.estimates.data import facts_of_report
from scheduling.estimates.estimating import KnownModel, estimate
from scheduling.estimates.shapes import shape_of
from storage.tabular import detect_format
from workers.process.usage import Usage
from workers.run.context import RunContext
from workers.runners import registry

_log = logging.getLogger("bench.memory_case")
_LOADED = (sklearn.feature_extraction.text, sklearn.svm)


def main(case: dict[str, Any]) -> None:
    """`case`: spec, data (path), header, model (folder). Writes one JSON object."""
    for name in registry.PRELOAD:
        importlib.import_module(name)
    spec, model = parse_spec(case["spec"]), Path(case["model"])
    data, header = Path(case["data"]), tuple(case["header"]) if case.get("header") else None
    made = _estimate(spec, data, header, model)
    with tempfile.TemporaryDirectory() as folder:
        usage = Usage()
        _run(spec, data, header, model, Path(folder))
        measured, seconds = usage.memory_bytes, usage.seconds
    result = {"estimate": made, "measured_bytes": measured, "seconds": round(seconds, 1)}
    sys.stdout.write(json.dumps(result) + "\n")


def _estimate(spec: SpecBase, data: Path, header: tuple[str, ...] | None, model: Path) -> dict[str, Any]:
    """In a list of its own so that the check's arrays are gone before memory is counted."""
    report = check_data(
        spec, CheckedFile(data, detect_format(data.name, named_columns(header)), data.name), Reader.load(model)
    )
    facts = facts_of_report(report) if report is not None else None
    if report is None or facts is None or report.problems:
        raise SystemExit(f"the data can't be used: {report.problems if report else 'no check'}")
    shape = shape_of(json.loads((model / "config.json").read_bytes()))
    made = estimate(spec, {role: KnownModel(shape, None) for role in spec.model_references()}, facts)
    return {**made.model_dump(), "total_bytes": made.main_memory.total}


def _run(spec: SpecBase, data: Path, header: tuple[str, ...] | None, model: Path, folder: Path) -> None:
    for name in ("output", "checkpoints"):
        (folder / name).mkdir()
    roles = {role: model for role in spec.model_references()}

    def emit(event: ChildEvent) -> None:
        _log.debug("%s", event)

    context = RunContext(
        spec=spec,
        dataset_path=data,
        model_dir=roles.pop("model", None),
        output_dir=folder / "output",
        checkpoints_dir=folder / "checkpoints",
        resume_from=None,
        emit=emit,
        stop_requested=lambda: False,
        dataset_dialect=named_columns(header),
        models=roles,
        origins={role: ModelOrigin(reference="bench/model@1", digest="0" * 64) for role in spec.model_references()},
    )
    registry.RUNNERS[spec.kind](context)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
