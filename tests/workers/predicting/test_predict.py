"""`predict`: a model of each task over a whole data set; a run that is killed goes on where it was."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobspecs.dialect import WRITTEN_CSV
from jobspecs.manifest import MANIFEST_NAME, Manifest
from storage.tabular import detect_format, profile_table, read_rows
from tests.language_models import build_tiny_llm
from tests.models import build_tiny_encoder, labelled_texts
from tests.workers.training.attempts import Killed
from tests.workers.training.job_attempts import JobAttempt
from workers.engines.embedded.tasks.text_classifier import Classifier
from workers.local_models.base_model import load_base, load_scorer
from workers.local_models.embedding_model import load_embedder, write_embedder
from workers.local_models.ranking_model import load_reranker
from workers.predicting import answers, predictors
from workers.predicting.table_rows import written_rows
from workers.run.context import RunFailed, RunStopped

ROWS, WINDOW = 40, 8
Attempts = Callable[..., JobAttempt]


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictors._Encoder, "window", WINDOW)
    monkeypatch.setattr(predictors._Answers, "window", 4)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    encoder = build_tiny_encoder(root / "encoder")
    for name, loaded in (("classifier", load_base(encoder, ("good", "bad"), 3)), ("reranker", load_scorer(encoder, 3))):
        loaded.model.save_pretrained(root / name)
        loaded.tokenizer.save_pretrained(root / name)
    (root / "embedder").mkdir()
    write_embedder(root / "embedder", load_embedder(encoder))
    return {
        **{name: root / name for name in ("encoder", "classifier", "reranker", "embedder")},
        "llm": build_tiny_llm(root / "llm"),
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "texts.csv", ("text", "other"), labelled_texts(ROWS))


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture
def attempt(tmp_path: Path, models: dict[str, Path], data: Path) -> Attempts:
    def make(name: str, model: str = "classifier", data: Path = data, **changes: Any) -> JobAttempt:
        reads = {} if changes.keys() & {"pair", "prompt", "messages"} else {"text": "text"}
        spec = {"kind": "predict", "name": "said", "model": "m@1", "dataset": "d@1", "checkpoint_every_rows": WINDOW}
        return JobAttempt(tmp_path / name, {**spec, **reads, **changes}, data, {"model": models[model]})

    return make


def rows_of(attempt: JobAttempt, manifest: Manifest) -> list[dict[str, Any]]:
    (file,) = manifest.files
    dialect = WRITTEN_CSV if file.path.endswith("csv.gz") else None
    return list(read_rows(attempt.output / file.path, detect_format(file.path, dialect)))


def test_a_classifier_labels_every_row_with_probabilities(attempt: Attempts, models: dict[str, Path]) -> None:
    whole = attempt("whole")
    manifest = whole.run()
    rows = rows_of(whole, manifest)
    assert manifest.artifact == "dataset" and [file.path for file in manifest.files] == ["said.csv.gz"]
    assert [(row["text"], row["other"]) for row in rows] == labelled_texts(ROWS)
    expected = Classifier.load(models["classifier"]).classify([text for text, _ in labelled_texts(ROWS)])
    for row, scores in zip(rows, expected, strict=True):
        assert row["predicted_label"] == scores[0].label
        assert float(row["predicted_probability"]) == pytest.approx(scores[0].score, abs=1e-5)
        assert sum(json.loads(row["predicted_probabilities"]).values()) == pytest.approx(1, abs=1e-5)
    assert sum(manifest.report["counts"]["label"].values()) == ROWS
    profile = profile_table(whole.output / "said.csv.gz", detect_format("said.csv.gz", WRITTEN_CSV), "said.csv.gz")
    assert profile.rows == ROWS and profile.columns["predicted_probability"].kind == "number"


@pytest.mark.parametrize("asked", [0, 2, 5])
def test_a_killed_run_ends_with_the_same_bytes(asked: int, attempt: Attempts) -> None:
    whole, broken = attempt("whole").run(), attempt("broken")
    with pytest.raises(Killed):
        broken.run(kill_after=asked, stage="predict")
    resumed = attempt("resumed")
    manifest = resumed.run(resume_from=broken.newest_checkpoint if asked else None)
    assert manifest.digest == whole.digest and manifest.metrics == whole.metrics
    assert manifest.report["predicting"]["resumed_at_row"] == asked * WINDOW


def test_a_run_asked_to_stop_keeps_its_whole_windows(attempt: Attempts) -> None:
    stopped = attempt("stopped", checkpoint_every_rows=1000)
    with pytest.raises(RunStopped):
        stopped.run(stop_after=3, stage="predict")
    assert stopped.newest_checkpoint.name == f"step-{3 * WINDOW:08d}"
    assert not (stopped.output / MANIFEST_NAME).exists()


def test_a_checkpoint_of_other_settings_or_a_changed_one_is_refused(
    attempt: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    broken = attempt("broken", prefix="said_")
    with pytest.raises(Killed):
        broken.run(kill_after=2, stage="predict")
    whole = attempt("other").run(resume_from=broken.newest_checkpoint)
    assert whole.report["predicting"]["resumed_at_row"] == 0 and "checkpoint refused" in caplog.text
    path = broken.newest_checkpoint / "rows.gz"
    path.write_bytes(path.read_bytes()[:-1])
    again = attempt("again", prefix="said_").run(resume_from=broken.newest_checkpoint)
    assert again.report["predicting"]["resumed_at_row"] == 0


def test_an_embedder_gives_vectors_or_the_cosine_of_a_pair(
    attempt: Attempts, models: dict[str, Path], tmp_path: Path
) -> None:
    texts = [text for text, _ in labelled_texts(ROWS)]
    lines = [json.dumps({"text": text, "more": [1, 2]}) for text in texts]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    whole = attempt("whole", "embedder", tmp_path / "texts.jsonl")
    rows = rows_of(whole, whole.run())
    expected = load_embedder(models["embedder"]).encode(texts)
    assert rows[0]["more"] == [1, 2]
    assert np.abs(np.array([row["predicted_vector"] for row in rows]) - expected).max() < 1e-5
    pairs = attempt("pairs", "embedder", pair=["text", "other"])
    scores = [float(row["predicted_score"]) for row in rows_of(pairs, pairs.run())]
    others = load_embedder(models["embedder"]).encode([label for _, label in labelled_texts(ROWS)])
    assert scores == pytest.approx((expected * others).sum(axis=1).tolist(), abs=1e-5)


def test_a_reranker_scores_pairs(attempt: Attempts, models: dict[str, Path]) -> None:
    whole = attempt("whole", "reranker", pair=["text", "other"])
    manifest = whole.run()
    scores = [float(row["predicted_score"]) for row in rows_of(whole, manifest)]
    assert scores == pytest.approx(
        load_reranker(models["reranker"]).score_pairs(labelled_texts(ROWS)).tolist(), abs=1e-5
    )
    assert manifest.metrics["rows/score"] == pytest.approx(np.mean(scores))


def test_a_language_model_answers_every_row_the_same_wherever_it_was_broken_off(
    attempt: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One look per window, however slow the machine is.
    monkeypatch.setattr(answers, "_LOOK_S", 600.0)
    settings = {"prompt": "Say more: {text}", "generation": {"max_new_tokens": 6, "temperature": 1.0}}
    short = attempt("short", "llm", **settings, checkpoint_every_rows=4)
    short.data = write_csv(short.root.parent / "few.csv", ("text", "other"), labelled_texts(10))
    whole = short.run()
    rows = rows_of(short, whole)
    assert {row["predicted_finish_reason"] for row in rows} <= {"stop", "length"}
    assert len({row["predicted_answer"] for row in rows}) > 1
    broken = attempt("broken", "llm", short.data, **settings, checkpoint_every_rows=4)
    with pytest.raises(RunStopped):
        broken.run(stop_after=2, stage="predict")
    resumed = attempt("resumed", "llm", short.data, **settings, checkpoint_every_rows=4)
    assert resumed.run(resume_from=broken.newest_checkpoint).digest == whole.digest


def test_conversations_are_answered_without_the_answers_that_they_hold(attempt: Attempts, tmp_path: Path) -> None:
    def turns(*texts: str) -> list[dict[str, str]]:
        return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]

    lines = [
        json.dumps({"talk": turns("hi", "hello")}),
        json.dumps({"talk": turns("hi")}),
        json.dumps({"talk": turns("x" * 500)}),
    ]
    (tmp_path / "talks.jsonl").write_text("\n".join(lines), encoding="utf-8")
    settings = {"messages": "talk", "max_length": 200, "generation": {"max_new_tokens": 4}}
    whole = attempt("whole", "llm", tmp_path / "talks.jsonl", **settings)
    manifest = whole.run()
    first, second, third = rows_of(whole, manifest)
    assert first["predicted_answer"] == second["predicted_answer"]
    assert (third["predicted_answer"], third["predicted_finish_reason"]) == (None, "prompt_too_long")
    assert manifest.metrics["rows/unanswered"] == 1


def test_answers_keep_to_a_json_schema(attempt: Attempts, tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"good": {"type": "boolean"}},
        "required": ["good"],
        "additionalProperties": False,
    }
    few = write_csv(tmp_path / "few.csv", ("text",), [(text,) for text, _ in labelled_texts(3)])
    settings = {"prompt": "{text}", "generation": {"max_new_tokens": 40, "json_schema": schema}}
    whole = attempt("whole", "llm", few, **settings)
    for row in rows_of(whole, whole.run()):
        assert json.loads(row["predicted_answer"]) in ({"good": True}, {"good": False})


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("encoder", {}, "a model without a task"),
        ("reranker", {}, "m@1 is a reranker; text is for a classifier or an embedder"),
        ("classifier", {"pair": ["text", "other"]}, "m@1 is a classifier"),
        ("embedder", {"prompt_name": "query"}, "prompt_name: the model has no prompt 'query'"),
        ("llm", {"prompt": "{absent}"}, "field absent, file texts.csv, row 1: prompt needs this column"),
    ],
)
def test_a_model_that_cannot_do_it_is_refused(
    model: str, changes: dict[str, Any], message: str, attempt: Attempts
) -> None:
    with pytest.raises(RunFailed, match=message):
        attempt("broken", model, **changes).run()


def test_rows_that_cannot_be_read_are_refused(attempt: Attempts, tmp_path: Path) -> None:
    for name, header, rows, message in (
        ("empty.csv", ("text", "other"), [], "no rows"),
        ("blank.csv", ("text", "other"), [("a", "b"), ("", "b")], "row 3: the cell is empty|row 2"),
        ("there.csv", ("text", "predicted_label"), [("a", "b")], "already has this column"),
    ):
        with pytest.raises(RunFailed, match=message):
            attempt(f"run-{name}", data=write_csv(tmp_path / name, header, rows)).run()


def test_pickles_and_code_of_a_model_are_refused(attempt: Attempts, models: dict[str, Path], tmp_path: Path) -> None:
    for name, change in (("auto", lambda c: c.update(auto_map={"AutoModel": "x.Y"})), ("pickle", lambda c: None)):
        folder = tmp_path / name
        folder.mkdir()
        for path in models["classifier"].iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        config = json.loads((folder / "config.json").read_bytes())
        change(config)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        if name == "pickle":
            (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        broken = attempt(f"{name}-run")
        broken.models = {"model": folder}
        with pytest.raises(RunFailed, match="never"):
            broken.run()


def test_whatever_an_answer_holds_can_be_read_back_from_a_csv(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"a": "one\rtwo", "b": 'say "x", \r\n y', "c": [1, 2.5]},
        {"a": "", "b": "\n", "c": {}},
    ]
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(written_rows(rows, "csv.gz", first=True)))
    found = list(read_rows(path, detect_format(path.name, WRITTEN_CSV)))
    assert [row["a"] for row in found] == ["one\rtwo", ""] and found[0]["b"] == rows[0]["b"]
    assert json.loads(found[0]["c"]) == [1, 2.5]
