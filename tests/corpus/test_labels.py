"""Cells as texts and classes: what is refused, which spellings are one class, and that check and job agree."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.cells import label_cell, number_cell, score_cell, text_cell
from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile
from corpus.held_out import parts_of
from corpus.labels import contradictions
from jobspecs.data_report import DataReport
from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.labels import normalized, spellings
from jobspecs.problems import InvalidInput
from storage.tabular import detect_format, profile_table
from workers.run.context import RunFailed
from workers.training.classification.data import LabelledTexts, load_texts, sample_and_split

DECOMPOSED = "scho\u0308n"


def spec(normalize: bool = False) -> TrainClassifier:
    document = {"kind": "train-classifier", "name": "n", "model": "m", "dataset": "d", "text": "text", "label": "label"}
    return TrainClassifier.model_validate({**document, "data": {"normalize_labels": normalize}})


def write(path: Path, labels: Sequence[Any]) -> Path:
    rows = ({"text": f"text {number}", "label": label} for number, label in enumerate(labels))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def check(path: Path, normalize: bool = False) -> DataReport:
    file = CheckedFile(path, detect_format(path.name), path.name)
    report = check_data(spec(normalize), file, Reader())
    assert report is not None
    return report


def load(path: Path, normalize: bool = False) -> LabelledTexts:
    return load_texts(parts_of(CheckedFile.of(path)), "text", "label", normalize_labels=normalize)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" gut\u00a0", "gut"),
        (True, "true"),
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.5, "0.5"),
        (1e300, "1e+300"),
        ("1.0", "1.0"),
        ("schön".encode(), "schön"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 9, 30), "2026-01-02T09:30:00"),
    ],
)
def test_scalars_are_texts_as_people_write_them(value: Any, text: str) -> None:
    assert text_cell(value, "c", "f", 3) == label_cell(value, "c", "f", 3) == text


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        (text_cell, {"de": "gut"}, "it is not a text but an object."),
        (text_cell, ["gut"], "it is not a text but a list."),
        (text_cell, b"\xe4", "it is not a text but bytes that are not UTF-8."),
        (text_cell, object(), "it is not a text but of the type object."),
        (text_cell, float("nan"), "the cell is empty."),
        (label_cell, ["a", "b"], "several labels per row are not supported."),
        (label_cell, {"a": 1}, "it is not a text but an object."),
        (number_cell, [1], "it is not a number but a list."),
        (number_cell, "inf", "'inf' is not a number."),
        (number_cell, None, "the cell is empty."),
    ],
)
def test_what_is_no_text_is_refused_with_its_row(read: Callable[..., Any], value: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(value, "c", "f", 3)
    problem = refused.value.problems[0]
    assert (problem.message, problem.field, problem.file, problem.row) == (message, "c", "f", 3)


def test_a_score_is_scaled_and_must_be_in_its_range() -> None:
    assert [score_cell(value, "c", (0, 4), "f", 1) for value in ("1", 2.0, True)] == [0.25, 0.5, 0.25]
    with pytest.raises(InvalidInput, match="5 is not between 0 and 4"):
        score_cell(5, "c", (0, 4), "f", 1)


def test_lists_and_objects_are_refused_alike_by_check_and_job(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [["a", "b"], "b", "c"] * 20)
    report = check(path)
    assert (report.usable, report.refused) == (40, 20)
    assert "several labels per row are not supported" in report.problems[0].message and report.problems[0].row == 1
    with pytest.raises(RunFailed, match=r"row 1: several labels per row are not supported"):
        load(path)


def test_bytes_of_parquet_are_the_text_that_they_spell(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [b"\xc3\xa4 1", b"b 2"] * 20, "label": [b"gut", b"schlecht"] * 20}), path)
    assert load(path).texts[0] == "ä 1" and load(path).classes == ("gut", "schlecht")
    assert check(path).classes == {"gut": 20, "schlecht": 20}


def test_a_number_is_one_class_however_it_is_typed(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [1.0, 0.0, 1, 0, "1", "0"] * 10)
    assert check(path).classes == {"0": 30, "1": 30} and not check(path).problems
    assert load(path).classes == ("0", "1")


SPELLINGS = [
    (["gut"] * 20 + ["GUT "] * 10 + ["schlecht"] * 30, {"gut": 30, "schlecht": 30}, "'gut' (row 1) = 'GUT' (row 21)"),
    (["schön"] * 20 + [DECOMPOSED] * 19, {"schön": 39}, "'schön' (row 1) = 'scho\\u0308n' (row 21)"),
    (["a b"] * 20 + ["a\u00a0 b"] * 5 + ["a\u200b b"] * 4, {"a b": 29}, "'a b' (row 1) = 'a\\xa0 b' (row 21)"),
    (["0"] * 20 + ["0.0"] * 10 + [False] * 5, {"0": 35}, "'0' (row 1) = '0.0' (row 21) = 'false' (row 31)"),
]


@pytest.mark.parametrize(("labels", "classes", "told"), SPELLINGS)
def test_spellings_of_one_class_are_named_and_mended_alike_by_check_and_job(
    labels: list[Any], classes: dict[str, int], told: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "rows.jsonl", [*labels, *["other"] * 20])
    plain = check(path)
    assert any(told in warning.message and "normalize_labels" in str(warning) for warning in plain.warnings)
    assert plain.classes is not None and len(plain.classes) == len(load(path).classes) > len(classes) + 1
    mended, texts = check(path, normalize=True), load(path, normalize=True)
    assert mended.classes == {**classes, "other": 20}
    assert texts.classes == tuple(sorted(mended.classes))
    assert not any("mean the same" in warning.message for warning in mended.warnings)
    split = sample_and_split(texts, spec(normalize=True))
    assert mended.held_out is not None
    assert (mended.held_out.train, mended.held_out.validation) == (len(split.train), len(split.validation))
    assert set(texts.renamed.values()) <= set(classes) and texts.renamed


def test_spaces_around_labels_are_left_out_and_said(tmp_path: Path) -> None:
    report = check(write(tmp_path / "a.jsonl", ["gut", " gut", "gut ", "schlecht", "schlecht"] * 8))
    assert report.classes == {"gut": 24, "schlecht": 16}
    (said,) = [warning for warning in report.warnings if "spaces around labels" in warning.message]
    assert said.message.startswith("16 rows (2, 3, 7, …)") and said.field == "label"


def test_names_that_look_like_numbers_stay_apart() -> None:
    counts = dict.fromkeys(["3.1", "3.10", "007", "7", "true", "false", "yes"], 5)
    assert spellings(counts) == []
    assert normalized(counts) == {name: name for name in counts}


def test_a_class_with_a_rare_spelling_is_not_refused_by_the_profile(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ["gut"] * 5 + ["GUT"] + ["b"] * 5)
    profile = profile_table(path, detect_format(path.name), path.name)
    assert spec(normalize=True).problems_with(profile) == []
    assert "class 'GUT' has 1 row" in check(path).problems[0].message
    assert not check(path, normalize=True).problems


def test_a_text_with_two_classes_is_told_with_its_rows(tmp_path: Path) -> None:
    rows = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(60)]
    rows[7] = {"text": " TEXT  4", "label": "b"}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = [warning for warning in check(path).warnings if "several classes" in warning.message]
    assert len(found) == 1 and "1 text stands with several classes, the first in rows 5 and 8" in found[0].message
    assert contradictions(np.array([1, 2, 1]), np.array([0, 1, 0])) is None
