"""Runs `train-classifier`: prepare, tokenize, train, validate, baseline, save."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from corpus.splits import VALIDATION
from jobspecs.data_report import CLASSES_SHOWN
from jobspecs.events import MetricEvent
from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.manifest import Manifest
from workers.judging.baselines import KEYS, baseline_predictions
from workers.judging.errors_shown import Errors
from workers.judging.verdict import LINEAR, MODEL, Verdict
from workers.local_models.base_model import LoadedModel, load_base
from workers.local_models.devices import prepare_device
from workers.local_models.prediction import probabilities
from workers.local_models.tokens import TokenTable, tokenize
from workers.run.context import RunContext
from workers.run.data_parts import data_parts, judging_dataset
from workers.run.stages import Stages, progress_of
from workers.training.classification.data import Split, load_texts, sample_and_split
from workers.training.classification.judging import judged, verdict_of
from workers.training.classification.linear import USE, train_linear
from workers.training.classification.training import TrainingData, train_classifier
from workers.training.model_card import model_card
from workers.training.saving import save_model, write_classifier


@dataclass(frozen=True)
class _Made:
    """A classifier that was trained, and what it says of the held-out rows."""

    system: str
    #: (N, C) probabilities.
    scores: npt.NDArray[np.float32]
    write: Callable[[Path], None]
    #: What its training is called in the report, how it ended, and in a sentence.
    training: dict[str, object]
    ended: str
    use: str | None = None
    #: Figures of the training, and its steps.
    metrics: dict[str, float] = field(default_factory=dict)
    steps: int | None = None
    tokens_per_text: float | None = None


def run(context: RunContext) -> Manifest:
    """Trains, judges and saves. Raises RunFailed and RunStopped; an earlier attempt's checkpoint shortens `train`."""
    spec = context.spec_as(TrainClassifier)
    stages = Stages(context)

    stages.enter("prepare")
    texts = load_texts(data_parts(context, spec), spec.text, spec.label, normalize_labels=spec.data.normalize_labels)
    split = sample_and_split(texts, spec)
    made = (_linear if spec.linear else _fine_tuned)(context, spec, split, stages)

    stages.enter("baseline")
    train, held_out = split.train, split.validation
    baselines = baseline_predictions(
        train.texts, train.labels, held_out.texts, balanced=split.balanced, between=context.check_stop
    )
    verdict = verdict_of(split, made.scores, baselines, context.check_stop, made.system)
    errors = Errors.of(held_out.texts, held_out.labels, made.scores, held_out.classes)
    metrics = {**made.metrics, **_metrics(verdict, spec.judging_part)}
    for name, value in metrics.items():
        context.emit(MetricEvent(name=name, value=value, step=made.steps))

    stages.enter("save")
    report = _report(spec, split, verdict, errors, made, stages.seconds)
    ended = made.ended + (" Classes had the same say." if split.balanced else "")
    manifest = save_model(
        context.output_dir,
        made.write,
        card=model_card(spec, split, verdict, errors, ended, made.use),
        datasets=context.datasets,
        task="text-classification",
        metrics=metrics,
        report=report,
        judged=judged(split, made.scores, baselines, spec.judging_part, judging_dataset(context, spec), made.system),
    )
    stages.close()
    return manifest


def _fine_tuned(context: RunContext, spec: TrainClassifier, split: Split, stages: Stages) -> _Made:
    device = prepare_device()
    loaded = load_base(context.base, split.train.classes, spec.training.seed, spec.training.dropout)

    stages.enter("tokenize")
    training_tokens = _tokenize(context, loaded, spec, split.fit.texts)
    validation_tokens = _tokenize(context, loaded, spec, split.validation.texts)

    stages.enter("train")
    fit, later = split.fit, len(split.validation)
    data = TrainingData(training_tokens, fit.labels, len(fit.classes), split.balanced, later, fit.roles == VALIDATION)
    result = train_classifier(context, loaded, data, spec.training, device)

    stages.enter("validate")
    scores = probabilities(loaded, validation_tokens, device, progress_of(context, "validate", len(split.validation)))
    head_rate = spec.training.learning_rate * spec.training.head_factor(new=not loaded.has_head)
    return _Made(
        system=MODEL,
        scores=scores,
        write=lambda folder: write_classifier(folder, loaded, spec.training.max_length),
        training={**result.as_json(), "balanced": split.balanced, "head_learning_rate": head_rate},
        ended=f"{result.sentence} The head's learning rate was {head_rate:g}.",
        metrics={"train/loss": result.loss},
        steps=result.steps,
        tokens_per_text=float(training_tokens.lengths.mean()),
    )


def _linear(context: RunContext, spec: TrainClassifier, split: Split, stages: Stages) -> _Made:
    """Over in seconds: an attempt that was interrupted begins anew, with the same bytes."""
    stages.enter("train")
    train, seed = split.train, spec.training.seed
    result = train_linear(
        train.texts, train.labels, train.classes, balanced=split.balanced, seed=seed, between=context.check_stop
    )
    stages.enter("validate")
    return _Made(
        system=LINEAR,
        scores=result.model.probabilities(split.validation.texts).astype(np.float32),
        write=result.model.save,
        training={**result.as_json(), "balanced": split.balanced},
        ended=result.sentence,
        use=USE,
    )


def _tokenize(context: RunContext, loaded: LoadedModel, spec: TrainClassifier, texts: tuple[str, ...]) -> TokenTable:
    return tokenize(loaded.tokenizer, texts, min(spec.training.max_length, loaded.max_tokens), context.check_stop)


def _metrics(verdict: Verdict, part: str) -> dict[str, float]:
    """Figures that an interrupted run repeats exactly; times belong to the report. `part`: whose rows judged."""
    metrics = {
        f"{part}/accuracy": verdict.model.accuracy,
        f"{part}/accuracy_low": verdict.model.accuracy_low,
        f"{part}/accuracy_high": verdict.model.accuracy_high,
        f"{part}/macro_f1": verdict.model.macro_f1,
    }
    if verdict.metric != "accuracy":
        metrics[f"{part}/{verdict.metric}"] = verdict.model.value
        metrics[f"{part}/{verdict.metric}_low"] = verdict.model.low
        metrics[f"{part}/{verdict.metric}_high"] = verdict.model.high
    for baseline in verdict.baselines:
        key = KEYS[baseline.system]
        metrics[f"baseline/{key}_accuracy"] = baseline.accuracy
        metrics[f"baseline/{key}_macro_f1"] = baseline.macro_f1
        metrics[f"baseline/{key}_{verdict.metric}"] = baseline.value
    return metrics


def _report(
    spec: TrainClassifier,
    split: Split,
    verdict: Verdict,
    errors: Errors,
    made: _Made,
    seconds: dict[str, float],
) -> dict[str, object]:
    tokens = {} if made.tokens_per_text is None else {"tokens_per_text": made.tokens_per_text}
    return {
        "verdict": verdict.as_json(),
        "confusion": errors.confusion,
        "mistakes": errors.mistakes,
        "classes": list(split.train.classes),
        "renamed_labels": dict(islice(split.train.renamed.items(), CLASSES_SHOWN)),
        "rows": {
            "train": len(split.train),
            "validation": len(split.fit) - len(split.train),
            spec.judging_part: len(split.validation),
            "texts_in_both": split.texts_in_both,
            "choosing_too": split.choosing_too,
        },
        **tokens,
        "training": made.training,
        "seconds": dict(seconds),
    }
