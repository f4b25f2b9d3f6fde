"""`score-pairs`: the scores are the teacher's, the bytes repeat, a run that is killed goes on where it was."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from jobspecs.events import CheckpointEvent, ProgressEvent, StageEvent
from jobspecs.manifest import MANIFEST_NAME, Manifest
from storage.tabular import detect_format, profile_table, read_rows
from tests.models import build_tiny_encoder
from tests.workers.training.attempts import Killed
from tests.workers.training.job_attempts import JobAttempt
from tests.workers.training.ranking.ranking_rows import graded_rows, write_rows
from workers.local_models.base_model import load_scorer
from workers.local_models.ranking_model import load_reranker
from workers.run.context import RunFailed, RunStopped
from workers.scoring import pair_scores

Attempts = Callable[..., JobAttempt]
HEADER = ("sentence1", "sentence2", "human")
ROWS = 80
WINDOW = 16


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_scores, "WINDOW_ROWS", WINDOW)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    loaded = load_scorer(build_tiny_encoder(folder / "base"), seed=3)
    loaded.model.save_pretrained(folder / "saved")
    loaded.tokenizer.save_pretrained(folder / "saved")
    return folder / "saved"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "sts.csv", HEADER, graded_rows(ROWS))


@pytest.fixture
def attempt(tmp_path: Path, teacher: Path, data: Path) -> Attempts:
    def make(name: str, data: Path = data, teacher: Path = teacher, **changes: Any) -> JobAttempt:
        return JobAttempt(tmp_path / name, document(**changes), data, {"teacher": teacher})

    return make


def document(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "score-pairs",
        "name": "scored",
        "teacher": "ranker@2",
        "dataset": "sts@1",
        "pair": ["sentence1", "sentence2"],
        "label": "human",
        "checkpoint_every_rows": WINDOW,
        **changes,
    }


def rows_of(attempt: JobAttempt, manifest: Manifest) -> list[dict[str, Any]]:
    (file,) = manifest.files
    return list(read_rows(attempt.output / file.path, detect_format(file.path)))


def test_every_row_keeps_its_columns_and_gets_the_teachers_score(attempt: Attempts, teacher: Path) -> None:
    whole = attempt("whole")
    manifest = whole.run()
    rows = rows_of(whole, manifest)
    assert manifest.artifact == "dataset" and [file.path for file in manifest.files] == ["scored.csv.gz"]
    assert [tuple(row.values())[:3] for row in rows] == [
        (one, two, str(score)) for one, two, score in graded_rows(ROWS)
    ]
    expected = load_reranker(teacher).score_pairs([(one, two) for one, two, _ in graded_rows(ROWS)])
    assert np.abs(np.array([float(row["score"]) for row in rows]) - expected).max() < 1e-5
    profile = profile_table(whole.output / "scored.csv.gz", detect_format("scored.csv.gz"), "scored.csv.gz")
    assert (profile.rows, profile.columns["score"].kind) == (ROWS, "number")


@pytest.mark.parametrize("asked", [0, 1, 3, 4])
def test_a_killed_run_ends_with_the_same_bytes(asked: int, attempt: Attempts) -> None:
    whole = attempt("whole").run()
    broken = attempt("broken")
    with pytest.raises(Killed):
        broken.run(kill_after=asked, stage="score")
    checkpoint = broken.newest_checkpoint if asked else None
    resumed = attempt("resumed")
    manifest = resumed.run(resume_from=checkpoint)
    assert manifest.digest == whole.digest and manifest.metrics == whole.metrics
    assert manifest.report["scoring"]["resumed_at_row"] == asked * WINDOW
    scored = [event.step for event in resumed.events if isinstance(event, ProgressEvent)]
    assert scored[0] == (asked + 1) * WINDOW and scored[-1] == ROWS


def test_a_run_killed_while_it_saves_scores_nothing_again(attempt: Attempts) -> None:
    whole, broken = attempt("whole").run(), attempt("broken")
    with pytest.raises(Killed):
        broken.run(kill_after=ROWS // WINDOW, stage="score")
    resumed = attempt("resumed")
    assert resumed.run(resume_from=broken.newest_checkpoint).digest == whole.digest
    assert not [event for event in resumed.events if isinstance(event, ProgressEvent)]


def test_how_often_checkpoints_are_written_does_not_change_the_bytes(attempt: Attempts) -> None:
    often, seldom = attempt("often").run(), attempt("seldom", checkpoint_every_rows=None).run()
    assert often.digest == seldom.digest
    broken = attempt("broken", checkpoint_every_rows=3 * WINDOW)
    with pytest.raises(Killed):
        broken.run(kill_after=4, stage="score")
    assert broken.newest_checkpoint.name == f"step-{3 * WINDOW:08d}"
    assert attempt("resumed").run(resume_from=broken.newest_checkpoint).digest == often.digest


def test_a_run_asked_to_stop_leaves_what_it_has(attempt: Attempts) -> None:
    stopped = attempt("stopped", checkpoint_every_rows=1000)
    with pytest.raises(RunStopped):
        stopped.run(stop_after=3, stage="score")
    saved = [event for event in stopped.events if isinstance(event, CheckpointEvent)]
    assert [(event.step, event.directory) for event in saved] == [(48, "checkpoints/step-00000048")]
    assert not (stopped.output / MANIFEST_NAME).exists()


@pytest.mark.parametrize("name", ["scores.safetensors", "state.json"])
def test_a_changed_checkpoint_is_refused_and_scoring_starts_anew(
    name: str, attempt: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    whole, broken = attempt("whole").run(), attempt("broken")
    with pytest.raises(Killed):
        broken.run(kill_after=2, stage="score")
    path = broken.newest_checkpoint / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    manifest = attempt("resumed").run(resume_from=broken.newest_checkpoint)
    assert manifest.digest == whole.digest
    assert manifest.report["scoring"]["resumed_at_row"] == 0
    assert "checkpoint refused" in caplog.text


def test_a_checkpoint_of_other_settings_is_refused(attempt: Attempts) -> None:
    broken = attempt("broken", activation="none")
    with pytest.raises(Killed):
        broken.run(kill_after=2, stage="score")
    assert attempt("resumed").run(resume_from=broken.newest_checkpoint).report["scoring"]["resumed_at_row"] == 0


def test_the_report_compares_the_scores_with_the_labels(attempt: Attempts) -> None:
    whole = attempt("whole")
    manifest = whole.run()
    report = manifest.report
    before, after = report["distribution"]["before"], report["distribution"]["after"]
    labels = np.array([score for *_, score in graded_rows(ROWS)])
    scores = np.array([float(row["score"]) for row in rows_of(whole, manifest)])
    assert before["mean"] == pytest.approx(labels.mean()) and after["mean"] == pytest.approx(scores.mean(), abs=1e-5)
    for found in (before, after):
        assert len(found["histogram"]) == 20 and sum(bar["rows"] for bar in found["histogram"]) == ROWS
        quantiles = list(found["quantiles"].values())
        assert quantiles == sorted(quantiles)
    assert report["distribution"]["spearman"] == pytest.approx(spearmanr(labels, scores).statistic)
    assert report["verdict"]["metric"] == "spearman"
    assert report["lineage"] == {
        "dataset": "sts@1",
        "teacher": {"reference": "tests/teacher@1", "digest": "0" * 64},
    }
    assert [event.stage for event in whole.events if isinstance(event, StageEvent)] == ["prepare", "score", "save"]


def test_without_labels_nothing_is_compared(attempt: Attempts) -> None:
    report = attempt("whole", label=None).run().report
    assert report["distribution"]["before"] is None and report["distribution"]["spearman"] is None
    assert "mean" in report["verdict"]["metric"]


def test_logits_are_what_the_sigmoid_is_taken_of(attempt: Attempts) -> None:
    logits, scores = attempt("logits", activation="none"), attempt("scores")
    pairs = [np.array([float(row["score"]) for row in rows_of(one, one.run())]) for one in (logits, scores)]
    assert np.abs(1 / (1 + np.exp(-pairs[0])) - pairs[1]).max() < 1e-5


def test_rows_with_types_stay_typed_and_what_json_lacks_becomes_text(attempt: Attempts, tmp_path: Path) -> None:
    table = [
        {"sentence1": one, "sentence2": two, "human": score, "tags": ["a", "b"], "weight": float("nan"), "more": b"raw"}
        for one, two, score in graded_rows(6)
    ]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "sts.parquet")
    whole = attempt("whole", tmp_path / "sts.parquet")
    manifest = whole.run()
    (file,) = manifest.files
    lines = gzip.decompress((whole.output / file.path).read_bytes()).decode().splitlines()
    first = json.loads(lines[1])
    assert file.path == "scored.jsonl.gz" and len(lines) == 6
    assert (first["human"], first["tags"], first["weight"]) == (1.0, ["a", "b"], None)
    assert list(first)[-1] == "score" and 0 < first["score"] < 1


@pytest.mark.parametrize(
    ("row", "changes", "message"),
    [
        (("a", "", 1), {}, "row 3: the cell is empty"),
        (("a", "b", "much"), {}, "row 3: 'much' is not a number"),
        (("a", "b", "inf"), {}, "row 3: 'inf' is not a number"),
    ],
)
def test_a_bad_row_is_refused_with_its_number_before_anything_is_scored(
    row: Any, changes: dict[str, Any], message: str, attempt: Attempts, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "bad.csv", HEADER, [("a", "b", 1), ("c", "d", 2), row])
    broken = attempt("broken", data, **changes)
    with pytest.raises(RunFailed, match=message):
        broken.run()
    assert not [event for event in broken.events if isinstance(event, ProgressEvent)]


def test_a_column_that_exists_is_not_written_over(attempt: Attempts, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "bad.csv", (*HEADER, "score"), [("a", "b", 1, 0.5)])
    with pytest.raises(RunFailed, match="already has this column"):
        attempt("broken", data).run()


def test_an_encoder_without_a_head_is_no_teacher(attempt: Attempts, tiny_bert: Path) -> None:
    with pytest.raises(RunFailed, match="BertModel; it must be a cross-encoder"):
        attempt("broken", teacher=tiny_bert).run()
