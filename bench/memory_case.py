"""One job as a worker runs it: what was estimated for it, and the peak that its report tells. For `memory_estimate`.

A zygote forks a child, which trains, judges and saves. What it tells of itself is what the platform records.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile
from jobspecs.dialect import named_columns
from jobspecs.estimate import Estimate
from jobspecs.kinds.base import BASE_ROLE
from jobspecs.manifest import ModelOrigin, read_manifest
from jobspecs.registry import parse_spec
from scheduling.estimates.data import facts_of_report
from scheduling.estimates.estimating import KnownModel, estimate
from scheduling.estimates.shapes import shape_of
from storage.tabular import detect_format
from workers.process.child_task import ChildTask
from workers.process.zygote_client import ZygoteClient

#: Seconds, on a busy machine too.
_READY_S, _JOB_S = 60.0, 200.0


def main(case: dict[str, Any]) -> None:
    """`case`: spec, data (path), header, model (folder). Writes one JSON object."""
    made = _estimate(case)
    with tempfile.TemporaryDirectory() as folder:
        task = _task(case, made, Path(folder))
        _run(task)
        report = read_manifest(task.output_dir).report
    result = {
        "estimate": {**made.model_dump(), "total_bytes": made.main_memory.total},
        "measured_bytes": report["memory"]["measured_bytes"],
        "seconds": round(report["duration"]["measured_s"], 1),
    }
    sys.stdout.write(json.dumps(result) + "\n")


def _estimate(case: dict[str, Any]) -> Estimate:
    spec, data, model = parse_spec(case["spec"]), Path(case["data"]), Path(case["model"])
    file = CheckedFile(data, detect_format(data.name, named_columns(_header(case))), data.name)
    report = check_data(spec, file, Reader.load(model))
    facts = facts_of_report(report) if report is not None else None
    if report is None or facts is None or report.problems:
        raise SystemExit(f"the data can't be used: {report.problems if report else 'no check'}")
    shape = shape_of(json.loads((model / "config.json").read_bytes()))
    return estimate(spec, {role: KnownModel(shape, None) for role in spec.model_references()}, facts)


def _header(case: dict[str, Any]) -> tuple[str, ...] | None:
    return tuple(case["header"]) if case.get("header") else None


def _task(case: dict[str, Any], made: Estimate, folder: Path) -> ChildTask:
    """What the supervisor would tell the child."""
    for name in ("output", "checkpoints"):
        (folder / name).mkdir()
    models = {role: Path(case["model"]) for role in parse_spec(case["spec"]).model_references()}
    return ChildTask(
        spec=case["spec"],
        work_dir=folder,
        dataset_path=Path(case["data"]),
        dataset_dialect=named_columns(_header(case)),
        origins={role: ModelOrigin(reference="bench/model@1", digest="0" * 64) for role in models},
        model_dir=models.pop(BASE_ROLE, None),
        models=models,
        output_dir=folder / "output",
        checkpoints_dir=folder / "checkpoints",
        resume_from=None,
        checked=True,
        estimate=made,
        gpus=(),
    )


def _run(task: ChildTask) -> None:
    path = task.work_dir / "task.json"
    path.write_text(task.model_dump_json(), encoding="utf-8")
    zygote = ZygoteClient("workers.runners.registry:RUNNERS")
    try:
        if not zygote.ready.wait(_READY_S):
            raise SystemExit("the zygote is not ready")
        child = zygote.spawn(path)
        log: list[bytes] = []
        readers = [
            threading.Thread(target=_read, args=told, daemon=True)
            for told in ((child.event_fd, []), (child.log_fd, log))
        ]
        for reader in readers:
            reader.start()
        if not child.exited.wait(_JOB_S):
            raise SystemExit(f"the job was not done after {_JOB_S:.0f} s")
        if child.status:
            raise SystemExit(f"the job failed: {b''.join(log)[-2000:].decode(errors='replace')}")
    finally:
        zygote.close()


def _read(descriptor: int, told: list[bytes]) -> None:
    with os.fdopen(descriptor, "rb") as stream:
        told.extend(stream)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
