"""How the sections `validation` and `test` of a spec deal its rows. Checks and jobs call these functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from corpus.splits import (
    TEST,
    VALIDATION,
    Indices,
    Roles,
    SplitRows,
    check_known,
    given_split,
    prompt_split,
    stratified_split,
    too_few,
)
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.kinds.training import TrainingSpec


def dealt(
    spec: TrainingSpec,
    roles: Roles,
    given: Callable[[npt.NDArray[np.bool_], Indices], SplitRows],
    drawn: Callable[[Indices], SplitRows],
) -> SplitRows:
    """How the sections `validation` and `test` of a spec deal N rows with these `roles` (N,).

    Both callables split the rows at some places (M,), by numbers from 0 to M: `given` is told which of them are held
    out, (M,), and `drawn` takes a share by chance. Raises InvalidInput when no row is left to train on or to judge by.
    """

    def rest(places: Indices) -> SplitRows:
        return given(roles[places] == VALIDATION, places) if spec.validation.given else drawn(places)

    everything = np.arange(len(roles))
    if spec.test is None:
        return rest(everything)
    testing = roles == TEST
    if not spec.validation.given and spec.validation.fraction == 0:
        return given(testing, everything)
    if not testing.any():
        raise too_few("no row is left to judge by.")
    if testing.all():
        raise too_few("all rows judge: none is left to train on.")
    others = np.flatnonzero(~testing)
    split = rest(others)
    return SplitRows(others[split.train], np.flatnonzero(testing), split.left_out, others[split.validation])


def class_split(
    spec: TrainClassifier, roles: Roles, labels: Indices, classes: Sequence[str], texts: Indices
) -> SplitRows:
    """How a classifier's rows are dealt. Raises InvalidInput as `stratified_split` and `given_split` do."""
    validation, seed = spec.validation, spec.validation.seed
    testing = roles == TEST
    if testing.any():
        check_known(labels[~testing], labels[testing], classes)

    def given(held_out: npt.NDArray[np.bool_], places: Indices) -> SplitRows:
        return given_split(held_out, rows=spec.rows, seed=seed, groups=labels[places], classes=classes)

    def drawn(places: Indices) -> SplitRows:
        return stratified_split(
            labels[places],
            classes,
            rows=spec.rows,
            fraction=validation.fraction,
            seed=seed,
            stratify=validation.stratify,
            texts=texts[places],
        )

    return dealt(spec, roles, given, drawn)


def rows_of_classes(spec: TrainClassifier, roles: Roles, labels: Indices, classes: int) -> list[int]:
    """Rows of each class in the data set, without those that the spec names to judge: these decide nothing else."""
    judging = VALIDATION if spec.test is None else TEST
    counts: list[int] = np.bincount(labels[roles != judging], minlength=classes).tolist()
    return counts


def example_split(spec: FinetuneLlm, roles: Roles, tied: Indices) -> SplitRows:
    """How examples are dealt; `tied` (N, 2) as `prompt_split` has it. Raises InvalidInput as that and `given_split`."""
    validation, seed = spec.validation, spec.validation.seed

    def given(held_out: npt.NDArray[np.bool_], places: Indices) -> SplitRows:
        return given_split(held_out, rows=spec.rows, seed=seed)

    def drawn(places: Indices) -> SplitRows:
        fraction, most = validation.fraction, validation.rows_max
        return prompt_split(tied[places], rows=spec.rows, fraction=fraction, seed=seed, validation_max=most)

    return dealt(spec, roles, given, drawn)
