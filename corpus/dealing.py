"""How the sections `validation` and `test` of a spec deal its rows. Checks and jobs call these functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

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
from jobspecs.problems import InvalidInput


class Share(NamedTuple):
    """Of the rows, held out by chance."""

    fraction: float
    seed: int


def dealt(
    spec: TrainingSpec,
    roles: Roles,
    given: Callable[[npt.NDArray[np.bool_], Indices], SplitRows],
    drawn: Callable[[Indices, Share], SplitRows],
) -> SplitRows:
    """How the sections `validation` and `test` of a spec deal N rows with these `roles` (N,).

    Both callables split the rows at some places (M,), by numbers from 0 to M: `given` is told which of them are held
    out, (M,), and `drawn` takes a share by chance. Raises InvalidInput when no row is left to train on or to judge by.
    """
    validation, test = spec.validation, spec.test

    def rest(places: Indices) -> SplitRows:
        if validation.given:
            return given(roles[places] == VALIDATION, places)
        return drawn(places, Share(validation.fraction, validation.seed))

    everything = np.arange(len(roles))
    if test is None:
        return rest(everything)
    testing, left_out = roles == TEST, 0
    if test.fraction is not None:
        others, testing, left_out = _drawn_first(roles, drawn, Share(test.fraction, test.seed))
    else:
        others = np.flatnonzero(~testing)
    if not validation.given and validation.fraction == 0:
        places = np.sort(np.concatenate([others, np.flatnonzero(testing)]))
        split = given(testing[places], places)
        return SplitRows(places[split.train], places[split.validation], left_out + split.left_out)
    if not testing.any():
        raise too_few("no row is left to judge by.")
    if not len(others):
        raise too_few("all rows judge: none is left to train on.")
    with _of_what_is_left(drawn=test.fraction is not None):
        split = rest(others)
    train, held_out, left_out = others[split.train], others[split.validation], left_out + split.left_out
    if test.sealed:
        return SplitRows(train, held_out, left_out)
    return SplitRows(train, np.flatnonzero(testing), left_out, held_out)


@contextmanager
def _of_what_is_left(*, drawn: bool) -> Iterator[None]:
    """What is wrong with the rows that `test` has left is said of how many it draws, not of the data. Raises it."""
    try:
        yield
    except InvalidInput as error:
        if not drawn:
            raise
        message, remedy = "of the rows that are left when these are drawn, ", "Draw fewer, or push more rows."
        told = [
            problem.model_copy(
                update={"field": "test.fraction", "message": f"{message}{problem.message}", "remedy": remedy}
            )
            for problem in error.problems
        ]
        raise InvalidInput(told) from error


def _drawn_first(
    roles: Roles, drawn: Callable[[Indices, Share], SplitRows], share: Share
) -> tuple[Indices, npt.NDArray[np.bool_], int]:
    """Places that are left for other sections; (N,) true for the share of those whose role nothing tells; and how many
    rows are in neither. The same for every spec that differs in nothing but what it does with them.
    """
    untold = np.flatnonzero(roles == 0)
    split = drawn(untold, share)
    testing = np.zeros(len(roles), dtype=bool)
    testing[untold[split.validation]] = True
    others = np.sort(np.concatenate([untold[split.train], np.flatnonzero(roles != 0)]))
    return others, testing, split.left_out


def class_split(
    spec: TrainClassifier, roles: Roles, labels: Indices, classes: Sequence[str], texts: Indices
) -> SplitRows:
    """How a classifier's rows are dealt. Raises InvalidInput as `stratified_split` and `given_split` do."""
    validation, seed = spec.validation, spec.validation.seed
    testing = roles == TEST
    if testing.any() and spec.judging_part == "test":
        check_known(labels[~testing], labels[testing], classes)

    def given(held_out: npt.NDArray[np.bool_], places: Indices) -> SplitRows:
        return given_split(held_out, rows=spec.rows, seed=seed, groups=labels[places], classes=classes)

    def drawn(places: Indices, share: Share) -> SplitRows:
        return stratified_split(
            labels[places],
            classes,
            rows=spec.rows,
            fraction=share.fraction,
            seed=share.seed,
            stratify=validation.stratify,
            texts=texts[places],
        )

    return dealt(spec, roles, given, drawn)


def rows_of_classes(spec: TrainClassifier, roles: Roles, labels: Indices, classes: int) -> list[int]:
    """Rows of each class in the data set, without those that the spec names to judge: these decide nothing else."""
    judging = np.isin(roles, (VALIDATION, TEST)) if spec.judging_part == "validation" else roles == TEST
    counts: list[int] = np.bincount(labels[~judging], minlength=classes).tolist()
    return counts


def example_split(spec: FinetuneLlm, roles: Roles, tied: Indices) -> SplitRows:
    """How examples are dealt; `tied` (N, 2) as `prompt_split` has it. Raises InvalidInput as that and `given_split`."""
    validation, seed = spec.validation, spec.validation.seed

    def given(held_out: npt.NDArray[np.bool_], places: Indices) -> SplitRows:
        return given_split(held_out, rows=spec.rows, seed=seed)

    def drawn(places: Indices, share: Share) -> SplitRows:
        most = validation.rows_max
        return prompt_split(tied[places], rows=spec.rows, fraction=share.fraction, seed=share.seed, validation_max=most)

    return dealt(spec, roles, given, drawn)
