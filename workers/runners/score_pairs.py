"""Runs `score-pairs`: prepare, score, save."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from jobspecs.events import MetricEvent
from jobspecs.kinds.score_pairs import TEACHER_ROLE, ScorePairs
from jobspecs.manifest import Manifest, describe_files, write_manifest
from workers.judging.ranking_verdict import SPEARMAN, SystemScore, correlation_of
from workers.local_models.devices import prepare_device
from workers.predicting.table_rows import TableRows
from workers.run.code_version import CODE, code_digest
from workers.run.context import RunContext
from workers.run.stages import Stages
from workers.scoring.pair_scores import Scored, Teacher, fingerprint, load_teacher, score_rows
from workers.scoring.scored_rows import Floats, PairTable, distribution, write_scored
from workers.training.checkpoints import UnusableCheckpoint

_log = logging.getLogger(__name__)

_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy")


def run(context: RunContext) -> Manifest:
    """Scores every pair and writes the data set. Raises RunFailed and RunStopped."""
    spec = context.spec_as(ScorePairs)
    stages = Stages(context)

    stages.enter("prepare")
    device = prepare_device()
    table = PairTable(TableRows(context.data, context.dataset_dialect), spec)
    rows, labels = table.check()
    teacher = load_teacher(context, spec, device)

    stages.enter("score")
    scored = _scored(context, teacher, table, rows, spec)

    stages.enter("save")
    write_scored(table, scored.scores, context.output_dir)
    verdict = _verdict(context, spec, scored, labels)
    metrics = _metrics(scored, verdict, labels)
    for name, value in metrics.items():
        context.emit(MetricEvent(name=name, value=value, step=rows))
    manifest = Manifest(
        artifact="dataset",
        files=describe_files(context.output_dir),
        versions={name: version(name) for name in _LIBRARIES} | {CODE: code_digest()},
        metrics=metrics,
        report=_report(context, spec, scored, labels, verdict, stages),
    )
    write_manifest(context.output_dir, manifest)
    stages.close()
    return manifest


def _scored(context: RunContext, teacher: Teacher, table: PairTable, rows: int, spec: ScorePairs) -> Scored:
    """All scores; those of a checkpoint are not computed again, unless it is of another run."""
    mark = fingerprint(context, spec)
    try:
        return score_rows(context, teacher, table.pairs(), rows, spec, mark)
    except UnusableCheckpoint as error:
        _log.warning("checkpoint refused, scoring starts anew: %s", error)
        return score_rows(replace(context, resume_from=None), teacher, table.pairs(), rows, spec, mark)


def _verdict(context: RunContext, spec: ScorePairs, scored: Scored, labels: Floats | None) -> dict[str, Any]:
    """What the scores are worth can only be told where labels are known; training on them tells the rest."""
    scores = scored.scores.astype(np.float64)
    sentence = f"{spec.teacher} scored {len(scores):,} pairs, {scores.mean():.3f} on average"
    if labels is None:
        system = {"system": spec.teacher, "value": float(scores.mean())}
        return {"sentence": f"{sentence}.", "helped": "unclear", "metric": "mean score", "systems": [system]}
    agreement: SystemScore = correlation_of(spec.teacher, labels, scores, context.check_stop)
    return {
        "sentence": f"{sentence}; Spearman with {spec.label!r} is {agreement.value:.3f}.",
        "helped": "unclear",
        "metric": SPEARMAN,
        "systems": [agreement.as_json()],
    }


def _metrics(scored: Scored, verdict: dict[str, Any], labels: Floats | None) -> dict[str, float]:
    """Figures that an interrupted run repeats exactly; times belong to the report."""
    metrics = {"scores/mean": float(scored.scores.mean()), "scores/deviation": float(scored.scores.std())}
    if labels is not None:
        metrics["scores/spearman_with_label"] = verdict["systems"][0]["value"]
    return metrics


def _report(
    context: RunContext,
    spec: ScorePairs,
    scored: Scored,
    labels: Floats | None,
    verdict: dict[str, Any],
    stages: Stages,
) -> dict[str, Any]:
    origin = context.origins.get(TEACHER_ROLE)
    return {
        "verdict": verdict,
        "lineage": {
            "dataset": spec.dataset,
            "teacher": {"reference": spec.teacher} if origin is None else origin.model_dump(mode="json"),
        },
        "rows": {"scored": len(scored.scores)},
        "distribution": {
            "before": None if labels is None else distribution(labels),
            "after": distribution(scored.scores.astype(np.float64)),
            "spearman": None if labels is None else verdict["systems"][0]["value"],
        },
        "scoring": {"resumed_at_row": scored.resumed_at, "pairs_per_s": scored.pairs_per_s},
        "seconds": dict(stages.seconds),
    }
