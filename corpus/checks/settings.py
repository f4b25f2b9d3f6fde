"""What a spec will train with, its defaults included, and whether its learning rate is one that people use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from jobspecs.data_report import Setting
from jobspecs.kinds.base import SpecBase
from jobspecs.kinds.train_classifier import LINEAR_SETTINGS, ClassifierTraining, TrainClassifier
from jobspecs.kinds.training import AUTO_EPOCHS, EncoderTraining, TrainingSpec
from jobspecs.labels import normalized
from jobspecs.problems import Problem
from jobspecs.profile import DatasetProfile

#: What is told, in this order, of a spec and its section `training`, as far as the kind has it.
_TOLD = ("objective", "tuning", "loss_name", "saved_as")
_TOLD_OF_TRAINING = (
    *("learning_rate", "head_learning_rate", "schedule", "warmup_fraction", "weight_decay", "epochs", "batch_size"),
    *("max_length", "class_weights", "optimizer", "loss_on", "beta"),
)
_NAMES = {"loss_name": "loss", "saved_as": "output"}
#: Settings that mean something for these objectives only.
_OBJECTIVES = {"beta": ("dpo", "kto"), "loss_on": ("sft",)}
#: The usual learning rates lie between these multiples of the default; one is far out beyond ten times that.
_USUAL_LOW, _USUAL_HIGH, _FAR = 0.5, 2.5, 10.0


def settings_of(spec: SpecBase) -> dict[str, Setting]:
    """What the job will train with, by name; empty for a kind that does not train."""
    training = getattr(spec, "training", None)
    if training is None:
        return {}
    if isinstance(spec, TrainClassifier) and spec.linear:
        return {name: getattr(training, name) for name in _TOLD_OF_TRAINING if name in LINEAR_SETTINGS}
    objective = getattr(spec, "objective", None)
    told: dict[str, Any] = {_NAMES.get(name, name): getattr(spec, name, None) for name in _TOLD}
    for name in _TOLD_OF_TRAINING:
        if objective is None or objective in _OBJECTIVES.get(name, (objective,)):
            told[name] = getattr(training, name, None)
    return {name: value for name, value in told.items() if value is not None}


def decided_settings(spec: SpecBase, train: float | None, *, counted: bool = True) -> dict[str, Setting]:
    """What `auto` comes to in the settings of `settings_of`, where that is known before the job runs.

    `train`: rows to train on, of which few are set aside later, `counted` or about so many; None: nobody knows yet.
    """
    training = getattr(spec, "training", None)
    told: dict[str, Setting] = {}
    if isinstance(spec, TrainClassifier) and spec.linear:
        return told
    if isinstance(training, EncoderTraining) and training.epochs == "auto" and train:
        most = training.epochs_of(train)
        told["epochs"] = f"auto (at most {'' if counted and most == AUTO_EPOCHS else 'about '}{most:.0f})"
    if isinstance(training, ClassifierTraining) and training.head_learning_rate == "auto":
        base = training.learning_rate
        new = base * training.head_factor(new=True)
        told["head_learning_rate"] = f"auto ({new:g}; {base:g} if the base brings a head for these classes)"
    return told


def settings_by_profile(spec: SpecBase, profile: DatasetProfile) -> dict[str, Setting]:
    """As `decided_settings`, where no check has dealt the rows: about what the spec and the profile tell."""
    if not isinstance(spec, TrainingSpec) or any(part and part.column for part in (spec.validation, spec.test)):
        return decided_settings(spec, None)
    fraction = 0.0 if spec.validation.given else spec.validation.fraction
    if spec.test is not None and spec.test.fraction is not None:
        fraction += spec.test.fraction * (1 - fraction)
    wanted: int | None = getattr(spec, "rows", None)
    told = decided_settings(spec, min(profile.rows, wanted or profile.rows) * (1 - fraction), counted=False)
    if isinstance(spec, TrainClassifier) and spec.training.class_weights == "auto":
        values = profile.columns[spec.label].values if spec.label in profile.columns else {}
        names = normalized(values) if spec.data.normalize_labels else {}
        counts = Counter[str]()
        for value, count in values.items():
            counts[names.get(value, value)] += count
        if counts:
            balanced = spec.training.balances(list(counts.values()))
            told["class_weights"] = f"auto (about all rows: {'balanced' if balanced else 'none'})"
    return told


def warnings_of_settings(spec: SpecBase) -> Iterator[Problem]:
    """A learning rate that is far from those that are used for such a job."""
    usual = spec.default_learning_rate()
    rate = getattr(getattr(spec, "training", None), "learning_rate", None)
    if usual is None or rate is None:
        return
    low, high = _USUAL_LOW * usual, _USUAL_HIGH * usual
    if low / _FAR <= rate <= high * _FAR:
        return
    yield Problem(
        field="training.learning_rate",
        message=f"{rate:g} is far {'above' if rate > high else 'below'} what is usual for {spec.training_in_words()}: "
        f"{low:g} to {high:g}. {'Such a job diverges.' if rate > high else 'Such a job hardly learns.'}",
        remedy=f"Take {usual:g}, the default, unless you know why.",
    )


def largest(spec: SpecBase, field: str) -> int | None:
    """The greatest value that a field such as `training.max_length` takes; None: there is no bound."""
    *sections, name = field.split(".")
    section: Any = spec
    for part in sections:
        section = getattr(section, part)
    bounds = (getattr(bound, "le", None) for bound in type(section).model_fields[name].metadata)
    return next((bound for bound in bounds if isinstance(bound, int)), None)
