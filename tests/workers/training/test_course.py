"""How long encoders train when the spec leaves it open, and which rows decide that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from jobspecs.events import MetricEvent
from jobspecs.kinds.training import AUTO_EPOCHS, AUTO_EPOCHS_MAX, EncoderTraining
from jobspecs.manifest import Manifest
from tests.models import labelled_texts
from tests.workers.training.attempts import Attempt, Killed, write_csv
from workers.training.course import chosen_by, course_of
from workers.training.optimization import learning_rates
from workers.training.word_embeddings import decay_of

#: 300 rows train of which 30 are set aside: 17 steps of 16 per epoch, and here 170 steps at most, a look every 5.
ROWS, LOOK, STEPS_MOST = 400, 5, 170
AUTO = {"epochs": "auto", "checkpoint_every_steps": 50}


@pytest.fixture(autouse=True, scope="module")
def _seldom_and_soon() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workers.training.course._STEPS_BETWEEN_MIN", LOOK)
        patch.setattr("jobspecs.kinds.training.AUTO_STEPS_MIN", STEPS_MOST)
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of the labels are drawn by lot: learning them by heart makes other rows worse."""
    path = tmp_path_factory.mktemp("data") / "texts.csv"
    luck = np.random.default_rng(1)
    rows = labelled_texts(ROWS)
    names = sorted({label for _, label in rows})
    write_csv(path, [(text, label if luck.random() < 0.5 else str(luck.choice(names))) for text, label in rows])
    return path


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, dataset: Path) -> tuple[Attempt, Manifest]:
    attempt = Attempt(tmp_path_factory.mktemp("unbroken"), tiny_bert, dataset)
    return attempt, attempt.run(training=AUTO)


def looks(attempt: Attempt) -> list[tuple[int, float]]:
    return [
        (event.step or 0, event.value)
        for event in attempt.events
        if isinstance(event, MetricEvent) and event.name == "aside/loss"
    ]


def test_training_ends_when_rows_set_aside_get_no_better_and_keeps_the_best(
    unbroken: tuple[Attempt, Manifest],
) -> None:
    attempt, manifest = unbroken
    training, seen = manifest.report["training"], looks(attempt)
    best = min(seen, key=lambda look: look[1])
    assert training["stopped_early"] and training["best_step"] == best[0]
    assert training["steps"] == best[0] + 4 * LOOK < STEPS_MOST
    assert f"after step {best[0]}" in training["sentence"]
    assert training["rows_aside"] == 30 and "30 of the training rows were set aside" in training["sentence"]
    assert training["sentence"] in (attempt.root / "out" / "README.md").read_text()


def test_words_that_no_row_uses_decay_as_long_as_the_kept_weights_trained(
    unbroken: tuple[Attempt, Manifest], tiny_bert: Path
) -> None:
    attempt, manifest = unbroken
    (name,) = [key for key in load_file(tiny_bert / "model.safetensors") if key.endswith("word_embeddings.weight")]
    base = load_file(tiny_bert / "model.safetensors")[name]
    trained = load_file(attempt.root / "out" / "model.safetensors")
    (after,) = [value for key, value in trained.items() if key.endswith("word_embeddings.weight")]
    training = EncoderTraining(learning_rate=2e-3)
    rates = learning_rates(STEPS_MOST, training)[: manifest.report["training"]["best_step"]]
    unused = np.isclose(after, base * decay_of(rates, training.weight_decay), rtol=1e-5, atol=0).all(axis=1)
    assert unused.sum() > 5 and not unused.all()


@pytest.mark.parametrize("step", [LOOK + 1, 20])
def test_an_open_ended_run_resumes_to_the_same_bytes(
    step: int, tmp_path: Path, tiny_bert: Path, dataset: Path, unbroken: tuple[Attempt, Manifest]
) -> None:
    every = {**AUTO, "checkpoint_every_steps": LOOK + 1}
    broken = Attempt(tmp_path / "broken", tiny_bert, dataset)
    with pytest.raises(Killed):
        broken.run(kill_after_step=step, training=every)
    resumed = Attempt(tmp_path / "resumed", tiny_bert, dataset).run(
        resume_from=broken.newest_checkpoint, training=every
    )
    assert (resumed.digest, resumed.metrics) == (unbroken[1].digest, unbroken[1].metrics)


def test_few_rows_get_more_passes_and_many_rows_four() -> None:
    auto = EncoderTraining(epochs="auto", batch_size=32)
    assert auto.epochs_of(320) * 10 == STEPS_MOST
    assert auto.epochs_of(32) == AUTO_EPOCHS_MAX
    assert auto.epochs_of(100_000) == AUTO_EPOCHS
    assert EncoderTraining(epochs=0.5).epochs_of(32) == 0.5


def test_nothing_is_set_aside_when_the_passes_are_given_or_rows_are_few() -> None:
    rows = np.arange(1000)
    assert len(course_of(EncoderTraining(epochs=2), rows).aside) == 0
    assert len(course_of(EncoderTraining(), rows[:199]).aside) == 0
    assert len(course_of(EncoderTraining(), rows[:200]).aside) == 20
    assert len(course_of(EncoderTraining(), np.arange(100_000)).aside) == 500


@settings(max_examples=30)
@given(
    groups=st.lists(st.integers(0, 120), min_size=200, max_size=400),
    classes=st.integers(1, 250),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_set_aside_separates_no_group_and_leaves_every_class_a_row(
    groups: list[int], classes: int, seed: int
) -> None:
    numbers = np.array(groups)
    strata = numbers % classes  # equal texts have equal classes here
    course = course_of(EncoderTraining(seed=seed), numbers, strata)
    assert sorted([*course.fit, *course.aside]) == list(range(len(numbers)))
    assert set(numbers[course.fit]).isdisjoint(numbers[course.aside])
    assert set(strata[course.fit]) == set(strata)
    assert len(course.aside) <= len(numbers) / 10
    again = course_of(EncoderTraining(seed=seed), numbers, strata)
    assert np.array_equal(again.aside, course.aside)


@settings(max_examples=30)
@given(classes=st.integers(1, 150), seed=st.integers(0, 2**32 - 1))
def test_rows_that_are_compared_with_others_of_their_class_are_set_aside_and_stay_in_pairs(
    classes: int, seed: int
) -> None:
    """A row alone in its class has nothing to be near: its loss says nothing of how well classes are told apart."""
    strata = np.random.default_rng(seed).integers(classes, size=300)
    course = course_of(EncoderTraining(seed=seed), np.arange(300), strata, together=2)
    aside, fit = (np.bincount(strata[rows], minlength=classes) for rows in (course.aside, course.fit))
    assert not (aside % 2).any() and len(course.aside) <= 30
    assert (fit >= np.minimum(np.bincount(strata, minlength=classes), 2)).all()
    assert len(course.aside) == 30 or classes > 50


def test_too_few_rows_that_choose_leave_the_choice_to_rows_set_aside() -> None:
    choosing = np.arange(420) >= 400
    enough = course_of(EncoderTraining(), np.arange(420), choosing=choosing)
    assert enough.given and sorted(enough.aside) == list(range(400, 420)) and len(enough.fit) == 400
    few = course_of(EncoderTraining(), np.arange(419), choosing=choosing[:419])
    assert not few.given and len(few.aside) == 40 and max(few.aside) < 400
    assert sorted([*few.fit, *few.aside]) == list(range(400))
    assert b"".join(array.tobytes() for array in chosen_by(choosing[:419])) != choosing[:419].tobytes()
    given = course_of(EncoderTraining(epochs=2), np.arange(420), choosing=choosing)
    assert (len(given.fit), len(given.aside)) == (400, 0)


def test_rows_that_choose_are_looked_at_in_pairs_where_rows_are_compared_with_others_of_their_class() -> None:
    choosing = np.arange(460) >= 400
    # Of those that choose, 30 are alone in their class and 30 stand in threes.
    strata = np.concatenate([np.arange(400) % 20, 100 + np.arange(30), 200 + np.arange(30) // 3])
    course = course_of(EncoderTraining(), np.arange(460), strata, choosing, together=2)
    assert course.given and np.unique(strata[course.aside], return_counts=True)[1].tolist() == [2] * 10


def test_rows_whose_loss_is_always_zero_do_not_decide_when_to_end() -> None:
    choosing = np.arange(460) >= 400
    telling = ~choosing & (np.arange(460) % 2 == 0)
    course = course_of(EncoderTraining(), np.arange(460), choosing=choosing, telling=telling)
    assert not course.given and len(course.aside) == 20 and telling[course.aside].all() and len(course.fit) == 380
    assert len(course_of(EncoderTraining(), np.arange(460), telling=np.arange(460) < 199).aside) == 0
