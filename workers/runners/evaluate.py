"""Runs `evaluate`: prepare, ask, judge, save."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jobspecs.events import MetricEvent
from jobspecs.kinds.evaluate import JUDGE_ROLE, Evaluate
from jobspecs.manifest import Manifest, ModelOrigin, describe_files, write_manifest
from workers.evaluating.figures import deciding, figures_of, with_scores
from workers.evaluating.said import Asking
from workers.evaluating.truth import Truth, truth_of
from workers.judging.measured import NAMES, Compared, Measured, compared, flipped
from workers.local_models.devices import prepare_device
from workers.predicting.predictors import Said
from workers.predicting.table_rows import TableRows, written_rows
from workers.run.code_version import CODE, code_digest
from workers.run.context import RunContext
from workers.run.stages import Stages

_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy")
#: Rows that flipped, of each pair of models, that the report names.
_FLIPPED_SHOWN = 20
_ANSWER_CHARS = 300
#: Rows written at once.
_WRITTEN_ROWS = 512


def run(context: RunContext) -> Manifest:
    """Figures of every model, and what each says of every row. Raises RunFailed and RunStopped."""
    spec = context.spec_as(Evaluate)
    stages = Stages(context)

    stages.enter("prepare")
    prepare_device()
    table = TableRows(context.data, context.dataset_dialect)
    truth = truth_of(table, spec)
    if not len(truth):
        raise table.invalid(None, None, "the data set has no rows.", "Push a file with rows.")

    stages.enter("ask")
    asking = Asking.of(context, spec, table, truth)
    said = asking.run()

    stages.enter("judge")
    if spec.task == "generation":
        said = {role: with_scores(spec, cells, truth) for role, cells in said.items()}
    found = figures_of(spec, said, truth, context.check_stop)
    # Files call models by their roles, sentences and tables as people do.
    found = {role: replace(one, model=spec.roles()[role]) for role, one in found.items()}
    first, *others = found.values()
    pairs = [compared(first, other, deciding(spec)) for other in others]

    stages.enter("save")
    _write(table, spec, said, truth, context.output_dir)
    metrics = _metrics(found, pairs)
    for name, value in metrics.items():
        context.emit(MetricEvent(name=name, value=value, step=len(truth)))
    manifest = Manifest(
        artifact="dataset",
        files=describe_files(context.output_dir),
        versions={name: version(name) for name in _LIBRARIES} | {CODE: code_digest()},
        metrics=metrics,
        report={
            **_report(context, spec, found, pairs, said, truth),
            "rows": {"evaluated": len(truth)},
            "evaluating": {"resumed_at_row": asking.resumed_at},
            "seconds": dict(stages.seconds),
        },
    )
    write_manifest(context.output_dir, manifest)
    stages.close()
    return manifest


def _metrics(found: Mapping[str, Measured], pairs: list[Compared]) -> dict[str, float]:
    """The first model's figures by their names, the others' below `model2`, `model3`, …, differences to each other."""
    metrics: dict[str, float] = {}
    for role, one in found.items():
        below = "" if not metrics else f"{role}/"
        for name, figure in one.figures.items():
            ends = {"": figure.value, "_low": figure.low, "_high": figure.high}
            metrics |= {f"{below}{name}{end}": value for end, value in ends.items()}
    for number, pair in enumerate(pairs, start=2):
        below = "difference" if number == 2 else f"difference{number}"
        for name, figure in pair.differences.items():
            ends = {"": figure.value, "_low": figure.low, "_high": figure.high}
            metrics |= {f"{below}/{name}{end}": value for end, value in ends.items()}
    return metrics


def _report(
    context: RunContext,
    spec: Evaluate,
    found: Mapping[str, Measured],
    pairs: list[Compared],
    said: Mapping[str, list[Said]],
    truth: Truth,
) -> dict[str, Any]:
    metric, roles = deciding(spec), spec.roles()
    first = next(iter(found.values()))
    own, *others = roles
    return {
        "verdict": {
            "sentence": _sentence(first, pairs, metric),
            "helped": "unclear",
            "metric": NAMES[metric],
            "systems": [_system(one, metric) for one in found.values()],
        },
        "evaluation": {
            "task": spec.task,
            "dataset": context.datasets["dataset"].reference if "dataset" in context.datasets else spec.dataset,
            "metric": metric,
            "models": {role: _of_model(context, role, one) for role, one in found.items()},
            "judge": _origin(context, JUDGE_ROLE, spec.judge.model) if spec.judge is not None else None,
            "compared": [pair.as_json() for pair in pairs],
        },
        "confusion": first.details.get("confusion"),
        "mistakes": first.details.get("mistakes", []),
        "flipped": [
            {"first": roles[own], "second": roles[other], "rows": _flipped(spec, said[own], said[other], truth)}
            for other in others
        ],
    }


def _sentence(first: Measured, pairs: list[Compared], metric: str) -> str:
    if pairs:
        return " ".join(pair.sentence for pair in pairs)
    figure = first.figures[metric]
    interval = f"{figure.low:.3f} to {figure.high:.3f}"
    return f"{first.model}: {NAMES[metric]} {figure.value:.3f} ({interval}) on {first.judged:,} {first.unit}."


def _system(one: Measured, metric: str) -> dict[str, Any]:
    others = {name: figure.value for name, figure in one.figures.items() if name != metric}
    return {"system": one.model, **vars(one.figures[metric]), **others}


def _of_model(context: RunContext, role: str, one: Measured) -> dict[str, Any]:
    return {
        **_origin(context, role, one.model),
        "figures": {name: vars(figure) for name, figure in one.figures.items()},
        "judged": one.judged,
        "unit": one.unit,
        **{name: value for name, value in one.details.items() if name not in ("confusion", "mistakes")},
    }


def _origin(context: RunContext, role: str, reference: str) -> dict[str, Any]:
    return (context.origins.get(role) or ModelOrigin(reference=reference)).model_dump(mode="json")


def _flipped(spec: Evaluate, first: list[Said], second: list[Said], truth: Truth) -> list[dict[str, Any]]:
    """Rows on which the two differ: those that one has right and the other wrong, or by how much where none is."""
    worth = _WORTH[spec.task]
    one, other = ([worth(cell, truth, row) for row, cell in enumerate(cells)] for cells in (first, second))
    return [
        {
            "row": row + 1,
            "text": truth.shown[row],
            "wanted": truth.wanted[row] if truth.wanted else truth.numbers[row] if truth.numbers else None,
            "first": one[row],
            "second": other[row],
            "first_said": _said_of(first[row]),
            "second_said": _said_of(second[row]),
        }
        for row in flipped(one, other, _FLIPPED_SHOWN)
    ]


def _said_of(cell: Said) -> str | None:
    text = cell.get("label") or cell.get("answer")
    return None if text is None else str(text)[:_ANSWER_CHARS]


_WORTH: Mapping[str, Any] = {
    "classification": lambda cell, truth, row: float(cell["label"] == truth.wanted[row]),
    "similarity": lambda cell, truth, row: float(cell["score"]),
    "reranking": lambda cell, truth, row: float(cell["score"]),
    "retrieval": lambda cell, truth, row: float(cell.get("ndcg_at_10", 0.0)),
    "perplexity": lambda cell, truth, row: float(cell["nats"] or 0.0) / max(1, cell["bytes"]),
    "generation": lambda cell, truth, row: float(
        cell.get("rouge_l", cell.get("valid_json", cell.get("preferred", 0.0)))
    ),
}


def _write(table: TableRows, spec: Evaluate, said: Mapping[str, list[Said]], truth: Truth, folder: Path) -> None:
    """Every row with what each model says of it, in columns that begin with the model's role."""
    path = folder / f"{spec.name}.{table.suffix}"
    with path.open("wb") as stream:
        batch: list[dict[str, Any]] = []
        written = 0
        for row in _with_said(table, spec, said, truth):
            batch.append(row)
            if len(batch) == _WRITTEN_ROWS:
                stream.write(gzip.compress(written_rows(batch, table.suffix, first=written == 0), mtime=0))
                written, batch = written + len(batch), []
        if batch:
            stream.write(gzip.compress(written_rows(batch, table.suffix, first=written == 0), mtime=0))


def _with_said(
    table: TableRows, spec: Evaluate, said: Mapping[str, list[Said]], truth: Truth
) -> Iterator[dict[str, Any]]:
    names = list(dict.fromkeys(name for cell in next(iter(said.values())) for name in cell))
    for number, row in enumerate(table):
        whole = dict(row)
        for role, cells in said.items():
            for name in names:
                whole[f"{role}_{name}"] = cells[number].get(name)
        if spec.task == "classification":
            rights = [cells[number]["label"] == truth.wanted[number] for cells in said.values()]
            whole["flipped"] = len({*rights}) > 1
        yield whole
