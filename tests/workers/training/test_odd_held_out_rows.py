"""Held-out rows that can tell nothing: check and job say so with the same words, and no figure stands for a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile
from jobspecs.data_report import DataReport
from jobspecs.registry import parse_spec
from tests.models import labelled_texts
from tests.workers.training.job_attempts import JobAttempt
from tests.workers.training.ranking.ranking_rows import graded_rows, ranked_rows, write_rows
from workers.run.context import RunFailed

GIVEN = {"validation": {"column": "part", "values": ["test"]}}
CLASSIFIER = {"kind": "train-classifier", "text": "text", "label": "label", **GIVEN}
PAIRS = {"kind": "train-embedder", "sentence1": "text", "sentence2": "other", "score": "label", "score_range": [0, 5]}
RERANKER = {"kind": "train-reranker", "query": "text", "passage": "other", "label": "label", "score_range": [0, 5]}


def parted(rows: Sequence[Sequence[Any]], judges: Any) -> list[Sequence[Any]]:
    """Rows with their part: every second of those that may judge does."""
    return [(*row, "test" if judges(row) and n % 4 < 2 else "train") for n, row in enumerate(rows)]


CLASSES = parted(labelled_texts(120), lambda row: row[1] == "good")
SCORES = parted(graded_rows(120), lambda row: row[2] == 3)
SAME = "all 10 held-out pairs have the same score: there is no order to judge."
ONE_CLASS = "All held-out rows are 'good': that says nothing of how well classes are told apart."


def document(fields: dict[str, Any]) -> dict[str, Any]:
    training = {"epochs": 1, "batch_size": 16, "learning_rate": 2e-3, "max_length": 32, "checkpoint_every_steps": 1000}
    return {"name": "tiny", "model": "tiny-bert@1", "dataset": "rows@1", "training": training, **fields}


def checked(fields: dict[str, Any], data: Path) -> DataReport:
    report = check_data(parse_spec(document(fields)), CheckedFile.of(data), Reader.load(data.parent))
    assert report is not None
    return report


@pytest.mark.parametrize(
    ("fields", "header", "rows", "message"),
    [
        ({**PAIRS, **GIVEN}, ("text", "other", "label", "part"), SCORES, SAME),
        ({**RERANKER, **GIVEN}, ("text", "other", "label", "part"), SCORES, SAME),
        ({**RERANKER, **GIVEN, "metric": "ndcg_at_10"}, ("text", "other", "label", "part"), SCORES, "is no order to"),
        ({**CLASSIFIER, "metric": "roc_auc"}, ("text", "label", "part"), CLASSES, ONE_CLASS),
    ],
)
def test_what_no_held_out_row_can_tell_is_refused_alike_by_check_and_job(
    fields: dict[str, Any], header: Sequence[str], rows: Sequence[Any], message: str, tmp_path: Path, tiny_bert: Path
) -> None:
    data = write_rows(tmp_path / "rows.csv", header, rows)
    assert [problem.message for problem in checked(fields, data).problems if message in problem.message]
    with pytest.raises(RunFailed, match=message):
        JobAttempt(tmp_path / "job", document(fields), data, {"model": tiny_bert}).run()


def test_one_class_among_held_out_rows_proves_nothing_either_way(tmp_path: Path, tiny_bert: Path) -> None:
    data = write_rows(tmp_path / "rows.csv", ("text", "label", "part"), CLASSES)
    assert ONE_CLASS in [warning.message for warning in checked(CLASSIFIER, data).warnings]
    verdict = JobAttempt(tmp_path / "job", document(CLASSIFIER), data, {"model": tiny_bert}).run().report["verdict"]
    assert verdict["helped"] == "unclear" and verdict["sentence"].endswith(ONE_CLASS)


@pytest.mark.parametrize("shape", ["ranked", "graded"])
def test_the_check_names_the_measure_by_which_the_job_will_judge(shape: str, tmp_path: Path, tiny_bert: Path) -> None:
    rows, most = (ranked_rows(), 1) if shape == "ranked" else (graded_rows(60), 5)
    fields = {**RERANKER, "score_range": [0, most]}
    data = write_rows(tmp_path / "rows.csv", ("text", "other", "label"), rows)
    manifest = JobAttempt(tmp_path / "job", document(fields), data, {"model": tiny_bert}).run()
    metric = "ndcg_at_10" if shape == "ranked" else "spearman"
    assert checked(fields, data).settings["metric"] == manifest.report["verdict"]["metric"] == metric
