"""README.md of a trained model: what it is, how good, compared with what. And the card of a classifier."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from corpus.markdown import Section, Table, card
from jobspecs.data_report import CLASSES_SHOWN
from jobspecs.kinds.train_classifier import LINEAR_SETTINGS, StratifiedValidation, TrainClassifier
from jobspecs.kinds.training import GivenRows, Optimization, Test, TrainingSpec, Validation
from workers.judging.class_metrics import NAMES
from workers.judging.errors_shown import Errors
from workers.judging.verdict import Verdict
from workers.training.classification.data import Split

_PIPELINE = """from transformers import pipeline

classify = pipeline("text-classification", model="path/to/this/folder", truncation=True)"""


def settings_table(training: Optimization, named: Collection[str] | None = None) -> Table:
    """The hyperparameters, or those `named`. How often checkpoints were written is no property of the model."""
    include = None if named is None else {*named}
    settings = training.model_dump(include=include, exclude={"checkpoint_every_steps"}, exclude_none=True)
    return Table(("setting", "value"), [(name, str(value)) for name, value in settings.items()])


def how_held_out(rows: GivenRows) -> str:
    """Where the rows of a section come from, for brackets behind their number."""
    if rows.dataset is not None:
        return f"all of `{rows.dataset}`"
    if rows.column is not None:
        return f"`{rows.column}` is {' or '.join(f'`{value}`' for value in rows.values)}"
    stratified = isinstance(rows, StratifiedValidation) and rows.stratify
    seed = rows.seed if isinstance(rows, Validation | Test) else None
    return f"seed {seed}{', stratified' if stratified else ''}"


def trained_on(spec: TrainingSpec, train: int, fit: int, choosing_too: int) -> str:
    """How many rows trained; `fit`: those and such as chose when to end; `choosing_too`: such as judged besides."""
    if fit == train:
        return f"trained on {train}."
    said = f"trained on {train}. {fit - train} rows of `validation` ({how_held_out(spec.validation)}) did neither."
    return f"{said} {choosing_too} of the held-out rows are among them too." if choosing_too else said


def model_card(
    spec: TrainClassifier, split: Split, verdict: Verdict, errors: Errors, ended: str, use: str | None = None
) -> str:
    """The card of a classifier; `ended`: how training ended; `use`: Python that classifies, if transformers can't."""
    made = f"trained as `{spec.model}`" if spec.linear else f"fine-tuned from `{spec.model}`"
    settings = LINEAR_SETTINGS if spec.linear else None
    classes = [
        (name, f"{entry.precision:.3f}", f"{entry.recall:.3f}", f"{entry.f1:.3f}", str(entry.rows))
        for name, entry in verdict.model.per_class.items()
    ]
    return card(
        spec.name,
        f"A text classifier for {len(split.train.classes)} classes, {made} on the columns "
        f"`{spec.text}` and `{spec.label}` of `{spec.dataset}`.",
        [
            Section(
                "Verdict",
                (
                    verdict.sentence,
                    _systems(verdict),
                    f"Measured on {len(split.validation)} held-out rows ({how_held_out(spec.judging_rows)}), "
                    f"{trained_on(spec, len(split.train), len(split.fit), split.choosing_too)} "
                    f"{split.texts_in_both} of the held-out texts "
                    "also occur in the training part. "
                    f"In accuracy, the difference to the best baseline has McNemar's p = {verdict.p_value:.3g}.",
                ),
            ),
            Section(
                "Per class",
                (Table(("class", "precision", "recall", "F1", "rows"), classes), *renamed_labels(split.train.renamed)),
            ),
            *_error_sections(errors),
            Section("Training", (settings_table(spec.training, settings), ended)),
            Section(
                "Use",
                (f"```python\n{use or _PIPELINE}\n```",),
            ),
        ],
    )


def renamed_labels(renamed: Mapping[str, str]) -> list[str]:
    """Labels of the data set that became a class of another name."""
    if not renamed:
        return []
    pairs = [f"{json.dumps(label, ensure_ascii=False)} as {name}" for label, name in renamed.items()]
    more = f" and {len(pairs) - CLASSES_SHOWN} more" if len(pairs) > CLASSES_SHOWN else ""
    return [f"Labels that were read as another: {', '.join(pairs[:CLASSES_SHOWN])}{more}."]


def _systems(verdict: Verdict) -> Table:
    """The metric that decides, and accuracy or macro F1 beside it."""
    systems = (verdict.model, *verdict.baselines)
    if verdict.metric == "accuracy":
        rows = [
            (one.system, f"{one.accuracy:.1%}", f"{one.low:.1%} to {one.high:.1%}", f"{one.macro_f1:.3f}")
            for one in systems
        ]
        return Table(("system", "accuracy", "95 % interval", "macro F1"), rows)
    rows = [
        (one.system, f"{one.value:.3f}", f"{one.low:.3f} to {one.high:.3f}", f"{one.accuracy:.1%}") for one in systems
    ]
    return Table(("system", NAMES[verdict.metric], "95 % interval", "accuracy"), rows)


def _error_sections(errors: Errors) -> list[Section]:
    found = []
    if errors.confusion is not None:
        classes = errors.confusion["classes"]
        rows = [(name, *map(str, counts)) for name, counts in zip(classes, errors.confusion["rows"], strict=True)]
        table = Table(("true class", *(f"as {name}" for name in classes)), rows)
        found.append(Section("Confusion", ("Held-out rows by the class that was predicted.", table)))
    if errors.mistakes:
        rows = [(one["text"], one["true"], one["predicted"], f"{one['probability']:.2f}") for one in errors.mistakes]
        table = Table(("text", "class", "predicted", "probability"), rows)
        found.append(Section("Mistakes", ("Held-out rows that it got wrong, the surest first.", table)))
    return found
