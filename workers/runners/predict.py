"""Runs `predict`: prepare, predict, save."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from typing import Any

from jobspecs.dialect import WRITTEN_CSV
from jobspecs.events import MetricEvent, ProgressEvent
from jobspecs.kinds.base import ADAPTER_BASE_SUFFIX, BASE_ROLE
from jobspecs.kinds.predict import Predict
from jobspecs.manifest import Manifest, describe_files, sha256_of, write_manifest
from workers.local_models.devices import prepare_device
from workers.predicting.predictors import Predictor, Row, Said, load_predictor
from workers.predicting.row_log import RowLog
from workers.predicting.table_rows import TableRows, written_rows
from workers.run.code_version import CODE, code_digest
from workers.run.context import RunContext, RunStopped
from workers.run.stages import Stages
from workers.training.checkpoints import UnusableCheckpoint

_log = logging.getLogger(__name__)

_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy")
#: What of a spec decides what is said of a row.
_DECIDES = {"text", "pair", "prompt", "messages", "system", "prefix", "max_length", "prompt_name", "generation"}
#: Labels and reasons that a report counts.
_COUNTED_MAX = 50


@dataclass
class _Tally:
    """What is known of all rows together: sums of what is a number, counts of what is a name."""

    sums: dict[str, float] = field(default_factory=dict)
    names: dict[str, Counter[str]] = field(default_factory=dict)
    rows: int = 0
    unanswered: int = 0

    def add(self, said: Said) -> None:
        self.rows += 1
        for name, value in said.items():
            if isinstance(value, int | float):
                self.sums[name] = self.sums.get(name, 0.0) + value
            elif isinstance(value, str) and name in ("label", "finish_reason"):
                self.names.setdefault(name, Counter())[value] += 1
        self.unanswered += "answer" in said and said["answer"] is None


def run(context: RunContext) -> Manifest:
    """What the model says of every row, beside the row. Raises RunFailed and RunStopped."""
    spec = context.spec_as(Predict)
    stages = Stages(context)

    stages.enter("prepare")
    prepare_device()
    table = TableRows(context.data, context.dataset_dialect)
    rows = _counted(table, spec)
    task, predictor = load_predictor(spec, context.base, context.models.get(BASE_ROLE + ADAPTER_BASE_SUFFIX))
    try:
        stages.enter("predict")
        log, resumed_at = _log_of(context, spec, table)
        begun = time.monotonic()
        _predict(context, spec, predictor, table, log, rows)
        per_s = (rows - resumed_at) / max(time.monotonic() - begun, 1e-9)
    finally:
        predictor.close()

    stages.enter("save")
    tally = _tally(TableRows(log.path, WRITTEN_CSV if table.suffix == "csv.gz" else None), spec, task)
    metrics = _metrics(tally)
    for name, value in metrics.items():
        context.emit(MetricEvent(name=name, value=value, step=rows))
    manifest = Manifest(
        artifact="dataset",
        files=describe_files(context.output_dir),
        versions={name: version(name) for name in _LIBRARIES} | {CODE: code_digest()},
        metrics=metrics,
        report=_report(context, spec, task, tally, stages, {"resumed_at_row": resumed_at, "rows_per_s": per_s}),
    )
    write_manifest(context.output_dir, manifest)
    stages.close()
    return manifest


def _counted(table: TableRows, spec: Predict) -> int:
    """Rows of the data set. Raises RunFailed where there are none, or a new column is there already."""
    made = spec.made_columns()
    number = 0
    for number, row in enumerate(table, start=1):
        if number == 1 and (there := [name for name in made if name in row]):
            message = "the data set already has this column."
            raise table.invalid(there[0], None, message, "Choose another prefix.")
    if number == 0:
        raise table.invalid(None, None, "the data set has no rows.", "Push a file with rows.")
    return number


def _log_of(context: RunContext, spec: Predict, table: TableRows) -> tuple[RowLog, int]:
    """Where results go, and how many are there from a checkpoint, unless that is of another run."""
    path = context.output_dir / f"{spec.name}.{table.suffix}"
    log = RowLog(context, path, _fingerprint(context, spec), spec.checkpoint_every_rows)
    if context.resume_from is not None:
        try:
            log.resume(context.resume_from)
        except UnusableCheckpoint as error:
            _log.warning("checkpoint refused, predicting starts anew: %s", error)
    return log, log.rows


def _fingerprint(context: RunContext, spec: Predict) -> str:
    """sha256 over all that decides what is said of a row: a checkpoint continues only the run that wrote it."""
    models = [f"{role} {origin.reference} {origin.digest}" for role, origin in sorted(context.origins.items())]
    told = [spec.model_dump_json(include=_DECIDES), sha256_of(context.data), code_digest(), *models]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _predict(
    context: RunContext, spec: Predict, predictor: Predictor, table: TableRows, log: RowLog, total: int
) -> None:
    begun, first = time.monotonic(), log.rows

    def after_each(within: int) -> None:
        context.check_stop()
        done = log.rows + within
        per_s = max(done - first, 1) / max(time.monotonic() - begun, 1e-9)
        left_s = (total - done) / per_s
        context.emit(ProgressEvent(stage="predict", step=done, steps_total=total, sequences_per_s=per_s, eta_s=left_s))

    for rows in _windows(islice(table, log.rows, None), predictor.window):
        given = [predictor.read(table, row, log.rows + place) for place, row in enumerate(rows, start=1)]
        try:
            said = predictor.say(given, log.rows + 1, after_each)
        except RunStopped:
            log.save()
            raise
        whole = [
            {**row, **{f"{spec.prefix}{name}": value for name, value in one.items()}}
            for row, one in zip(rows, said, strict=True)
        ]
        content = written_rows(whole, table.suffix, first=log.rows == 0)
        log.append(len(rows), content, last=log.rows + len(rows) == total)


def _windows(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while window := list(islice(rows, size)):
        yield window


def _tally(results: TableRows, spec: Predict, task: str) -> _Tally:
    """Of the results as they are kept: a resumed run counts what it did not compute as well."""
    tally = _Tally()
    made = spec.made_columns(task)
    for row in results:
        tally.add({name.removeprefix(spec.prefix): _read(row[name], kind) for name, kind in made.items()})
    return tally


def _read(value: Any, kind: str) -> Any:
    """A cell as it was written; a CSV's are texts."""
    return float(value) if kind == "number" and isinstance(value, str) and value else value


def _metrics(tally: _Tally) -> dict[str, float]:
    """Figures that an interrupted run repeats exactly; times belong to the report."""
    metrics = {"rows/predicted": float(tally.rows)}
    metrics |= {f"rows/{name}": total / tally.rows for name, total in tally.sums.items()}
    if reasons := tally.names.get("finish_reason"):
        metrics |= {"rows/cut": float(reasons["length"]), "rows/unanswered": float(tally.unanswered)}
    return metrics


def _report(
    context: RunContext, spec: Predict, task: str, tally: _Tally, stages: Stages, facts: dict[str, Any]
) -> dict[str, Any]:
    origin = context.origins.get(BASE_ROLE)
    counts = {name: dict(counted.most_common(_COUNTED_MAX)) for name, counted in tally.names.items()}
    return {
        "verdict": {
            "sentence": _sentence(spec, tally),
            "helped": "unclear",
            "metric": "rows",
            "systems": [{"system": spec.model, "value": float(tally.rows)}],
        },
        "task": task,
        "lineage": {
            "dataset": spec.dataset,
            "model": {"reference": spec.model} if origin is None else origin.model_dump(mode="json"),
        },
        "rows": {"predicted": tally.rows},
        "counts": counts,
        "columns": list(spec.made_columns(task)),
        "predicting": facts,
        "settings": json.loads(spec.model_dump_json(include=_DECIDES)),
        "seconds": dict(stages.seconds),
    }


def _sentence(spec: Predict, tally: _Tally) -> str:
    said = f"{spec.model} has read {tally.rows:,} rows"
    if labels := tally.names.get("label"):
        most = ", ".join(f"{name!r} {count:,}" for name, count in labels.most_common(5))
        return f"{said}: {most}{' …' if len(labels) > 5 else ''}."
    if reasons := tally.names.get("finish_reason"):
        cut = f", {reasons['length']:,} were cut at max_new_tokens" if reasons["length"] else ""
        none = f", {tally.unanswered:,} prompts were longer than max_length and have no answer" * bool(tally.unanswered)
        return f"{said} and answered {tally.rows - tally.unanswered:,}{cut}{none}."
    if "score" in tally.sums:
        return f"{said}; the scores are {tally.sums['score'] / tally.rows:.3f} on average."
    return f"{said}."
