"""Runs `train-classifier`: prepare, tokenize, train, validate, baseline, save."""

from __future__ import annotations

from itertools import islice

from corpus.splits import VALIDATION
from jobspecs.data_report import CLASSES_SHOWN
from jobspecs.events import MetricEvent
from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.manifest import Manifest
from workers.judging.baselines import KEYS, baseline_predictions
from workers.judging.errors_shown import Errors
from workers.judging.verdict import Verdict
from workers.local_models.base_model import LoadedModel, load_base
from workers.local_models.devices import prepare_device
from workers.local_models.prediction import probabilities
from workers.local_models.tokens import TokenTable, tokenize
from workers.run.context import RunContext
from workers.run.data_parts import data_parts, judging_dataset
from workers.run.stages import Stages, progress_of
from workers.training.classification.data import Split, load_texts, sample_and_split
from workers.training.classification.judging import judged, verdict_of
from workers.training.classification.training import TrainingData, train_classifier
from workers.training.loop import TrainingResult
from workers.training.model_card import model_card
from workers.training.saving import save_model, write_classifier


def run(context: RunContext) -> Manifest:
    """Trains, judges and saves. Raises RunFailed and RunStopped; an earlier attempt's checkpoint shortens `train`."""
    spec = context.spec_as(TrainClassifier)
    stages = Stages(context)

    stages.enter("prepare")
    device = prepare_device()
    parts = data_parts(context, spec)
    texts = load_texts(parts, spec.text, spec.label, normalize_labels=spec.data.normalize_labels)
    split = sample_and_split(texts, spec)
    balanced = split.balanced
    loaded = load_base(context.base, split.train.classes, spec.training.seed, spec.training.dropout)

    stages.enter("tokenize")
    training_tokens = _tokenize(context, loaded, spec, split.fit.texts)
    validation_tokens = _tokenize(context, loaded, spec, split.validation.texts)

    stages.enter("train")
    fit, later = split.fit, len(split.validation)
    data = TrainingData(training_tokens, fit.labels, len(fit.classes), balanced, later, fit.roles == VALIDATION)
    result = train_classifier(context, loaded, data, spec.training, device)

    stages.enter("validate")
    scores = probabilities(loaded, validation_tokens, device, progress_of(context, "validate", len(split.validation)))

    stages.enter("baseline")
    train, held_out = split.train, split.validation
    baselines = baseline_predictions(
        train.texts, train.labels, held_out.texts, balanced=balanced, between=context.check_stop
    )
    verdict = verdict_of(split, scores, baselines, context.check_stop)
    errors = Errors.of(split.validation.texts, split.validation.labels, scores, split.validation.classes)
    metrics = _metrics(verdict, result, spec.judging_part)
    for name, value in metrics.items():
        context.emit(MetricEvent(name=name, value=value, step=result.steps))

    stages.enter("save")
    head_rate = spec.training.learning_rate * spec.training.head_factor(new=not loaded.has_head)
    decided = {"balanced": balanced, "head_learning_rate": head_rate}
    report = _report(spec, split, verdict, errors, result, training_tokens, decided, stages.seconds)
    ended = f"{result.sentence} The head's learning rate was {head_rate:g}."
    ended += " Classes had the same say." if balanced else ""
    card = model_card(spec, split, verdict, errors, ended)
    manifest = save_model(
        context.output_dir,
        lambda folder: write_classifier(folder, loaded, spec.training.max_length),
        card=card,
        datasets=context.datasets,
        task="text-classification",
        metrics=metrics,
        report=report,
        judged=judged(split, scores, baselines, spec.judging_part, judging_dataset(context, spec)),
    )
    stages.close()
    return manifest


def _tokenize(context: RunContext, loaded: LoadedModel, spec: TrainClassifier, texts: tuple[str, ...]) -> TokenTable:
    return tokenize(loaded.tokenizer, texts, min(spec.training.max_length, loaded.max_tokens), context.check_stop)


def _metrics(verdict: Verdict, result: TrainingResult, part: str) -> dict[str, float]:
    """Figures that an interrupted run repeats exactly; times belong to the report. `part`: whose rows judged."""
    metrics = {
        "train/loss": result.loss,
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
    result: TrainingResult,
    tokens: TokenTable,
    decided: dict[str, float],
    seconds: dict[str, float],
) -> dict[str, object]:
    """`decided`: settings that data and base decided."""
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
        "tokens_per_text": float(tokens.lengths.mean()),
        "training": {**result.as_json(), **decided},
        "seconds": dict(seconds),
    }
