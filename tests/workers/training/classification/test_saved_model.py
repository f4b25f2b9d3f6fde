from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from corpus.checks.findings import text_hashes
from corpus.checks.rows import CheckedFile
from corpus.held_out import parts_of
from jobspecs.events import MetricEvent
from jobspecs.frozen import FrozenDataset
from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.manifest import DatasetOrigin, describe_files, read_manifest
from jobspecs.provenance import Provenance
from tests.models import labelled_texts
from tests.workers.training.attempts import Attempt, spec_document, write_csv
from tests.workers.training.kept import Kept, assert_told_again
from workers.engines.embedded.tasks.text_classifier import Classifier
from workers.judging.held_out_file import Judged
from workers.training.classification.data import load_texts, sample_and_split


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, dataset: Path) -> Path:
    attempt = Attempt(tmp_path_factory.mktemp("trained"), tiny_bert, dataset)
    attempt.run(training={"epochs": 6, "learning_rate": 5e-3, "checkpoint_every_steps": 1000})
    return attempt.root / "out"


def test_the_artifact_holds_what_its_manifest_names_and_no_more(trained: Path) -> None:
    manifest = read_manifest(trained)
    assert manifest.files == describe_files(trained)
    assert {file.path for file in manifest.files} == {
        "README.md",
        "config.json",
        "evaluation/held-out.parquet",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert "torch" in manifest.versions
    text = "".join((trained / file.path).read_text(errors="replace") for file in manifest.files)
    assert str(trained.parent) not in text and "/tmp" not in text


def test_plain_transformers_gives_the_same_scores_as_the_engine(trained: Path) -> None:
    texts = [text for text, _ in labelled_texts(40, seed=11)] + ["", "word " * 200]
    tokenizer = AutoTokenizer.from_pretrained(trained)
    model = AutoModelForSequenceClassification.from_pretrained(trained)
    encoded = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = torch.softmax(model(**encoded).logits, dim=-1).numpy()
    engine = Classifier.load(trained, threads=1)
    assert engine.labels == ("bad", "good") == tuple(model.config.id2label.values())
    for row, scores in zip(expected, engine.classify(texts), strict=True):
        assert [entry.score for entry in scores] == sorted((entry.score for entry in scores), reverse=True)
        by_label = {entry.label: entry.score for entry in scores}
        assert np.allclose([by_label["bad"], by_label["good"]], row, atol=1e-5)


def test_the_pipeline_of_transformers_gives_the_same_labels_and_scores(trained: Path) -> None:
    card = (trained / "README.md").read_text(encoding="utf-8")
    assert 'pipeline("text-classification", model="path/to/this/folder", truncation=True)' in card
    classify = pipeline("text-classification", model=str(trained), device="cpu", truncation=True)
    texts = ["spring in the garden", "a storm", "outage " * 200]
    engine = Classifier.load(trained, threads=1)
    for top_k in (None, 1):
        for found, ours in zip(classify(texts, top_k=top_k), engine.classify(texts), strict=True):
            assert [entry["label"] for entry in found] == [score.label for score in ours[: len(found)]]
            assert [entry["score"] for entry in found] == pytest.approx([s.score for s in ours[: len(found)]], abs=1e-5)


def test_no_texts_give_no_scores(trained: Path) -> None:
    assert Classifier.load(trained).classify([]) == []


def test_words_that_tell_the_classes_apart_are_learned(trained: Path) -> None:
    manifest = read_manifest(trained)
    assert manifest.metrics["validation/accuracy"] > 0.9
    assert manifest.metrics["baseline/majority_accuracy"] == pytest.approx(0.5, abs=0.02)
    assert "| fine-tuned |" in (trained / "README.md").read_text(encoding="utf-8")


def test_every_figure_of_the_verdict_comes_from_the_kept_predictions_alone(trained: Path, dataset: Path) -> None:
    kept = Kept(trained)
    assert_told_again(trained)
    rows = list(csv.reader(dataset.read_text("utf-8").splitlines()))
    assert [rows[number][1] for number in kept["row"]] == kept["label"].tolist()
    assert kept["text"].tolist() == text_hashes(rows[number][0] for number in kept["row"]).tolist()
    assert kept.places("predicted").tolist() == kept["probabilities"].argmax(axis=1).tolist()
    assert (kept.facts["kind"], set(kept["part"]), kept.facts["dataset"]["reference"]) == (
        "train-classifier",
        {"validation"},
        "texts@1",
    )
    assert set(kept.facts["columns"]) == set(kept.table.column_names)
    # Texts may not be read by everybody who may have the model.
    content = (trained / "evaluation" / "held-out.parquet").read_bytes() + str(kept.table.to_pydict()).encode()
    assert not any(rows[number][0].encode() in content for number in kept["row"])


def test_of_very_many_rows_a_sample_is_kept_and_the_card_says_so(tmp_path: Path) -> None:
    numbers = np.arange(1, 1001)
    judged = Judged(
        "train-reranker",
        "test",
        DatasetOrigin(reference="x@1"),
        numbers,
        text_hashes(["a"] * 1000),
        "the text",
        [],
        groups=numbers // 10,
    )
    kept = judged.write(tmp_path, bytes_max=10_000)
    rows = Kept(tmp_path)["row"].tolist()
    assert kept.rows == len(rows) and 0 < kept.rows * kept.bytes_per_row <= 10_000
    assert rows == sorted(rows) and "Of the 1,000 predictions a sample of" in kept.sentence
    assert all({(10 * group + place) in rows for place in range(10)} != {True, False} for group in range(1, 100))


def test_the_card_says_where_the_rows_came_from_and_under_which_licence(
    attempt: Callable[[str], Attempt],
) -> None:
    given = attempt("pulled")
    said = Provenance(origin="hub:org/news@0123", license="cc-by-4.0")
    stored: dict[str, Any] = {"file_name": "a.csv", "key": "k", "bytes": 1, "sha256": "0"}
    news = FrozenDataset(version_id=UUID(int=1), owner="ada", name="news", version=3, provenance=said, **stored)
    given.datasets = {"dataset": news.origin, "test": DatasetOrigin(reference="ada/own@1")}
    given.run(training={"epochs": 0.01})
    text = (given.root / "out" / "README.md").read_text(encoding="utf-8")
    place = "- `ada/news@3`: hub:org/news@0123, licence cc-by-4.0"
    assert f"## Where the rows came from\n\n{place}\n\n## Held-out predictions" in text and "ada/own" not in text


@pytest.mark.parametrize(("sizes", "kept"), [((500, 500), 0), ((900, *[1] * 100), 100), ((300, 500, 200), 500)])
def test_what_is_too_large_for_the_sample_leaves_room_for_others(
    tmp_path: Path, sizes: tuple[int, ...], kept: int
) -> None:
    groups = np.arange(len(sizes)).repeat(sizes)
    texts = text_hashes(["a"] * 1000)
    origin = DatasetOrigin(reference="x@1")
    judged = Judged("train-reranker", "test", origin, np.arange(1, 1001), texts, "the text", [], groups=groups)
    each = judged.write(tmp_path).bytes_per_row
    found = judged.write(tmp_path, bytes_max=int(each * (400 if len(sizes) == 2 else 600)))
    assert found.rows == kept == len(Kept(tmp_path)["row"])
    assert ("None of the 1,000 predictions is kept" in found.sentence) == (kept == 0)


def test_the_metadata_say_how_digests_are_made(trained: Path, dataset: Path) -> None:
    kept = Kept(trained)
    row = list(csv.reader(dataset.read_text("utf-8").splitlines()))[kept["row"][0]]
    text = " ".join(row[0].casefold().split()).encode()
    digest = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)
    assert kept["text"][0] == digest != int.from_bytes(hashlib.blake2b(text).digest()[:8], "big", signed=True)
    meaning = kept.facts["columns"]["text"]
    assert "BLAKE2b with a digest of 8 bytes" in meaning and "of the text, casefolded" in meaning


def test_balanced_classes_label_smoothing_and_cosine_run(attempt: Callable[[str], Attempt], tmp_path: Path) -> None:
    whole = attempt("whole")
    whole.data = tmp_path / "uneven.csv"
    rows = labelled_texts(60)
    write_csv(whole.data, rows[::2] + rows[1:20:2])
    settings = {"class_weights": "balanced", "label_smoothing": 0.1, "schedule": "cosine", "dropout": 0.2}
    manifest = whole.run(training=settings, validation={"fraction": 0.3, "seed": 1, "stratify": False})
    assert manifest.report["rows"]["train"] + manifest.report["rows"]["validation"] == 40
    verdict, card = manifest.report["verdict"], (whole.root / "out" / "README.md").read_text(encoding="utf-8")
    assert verdict["metric"] == "macro_f1" and "| system | macro F1 | 95 % interval | accuracy |" in card
    assert manifest.metrics["validation/macro_f1_low"] <= verdict["model"]["value"] == verdict["model"]["macro_f1"]
    assert_told_again(whole.root / "out")
    counts = np.array(manifest.report["confusion"]["rows"])
    assert counts.sum() == manifest.report["rows"]["validation"] and "## Confusion" in card
    assert len(manifest.report["mistakes"]) == min(10, counts.sum() - np.trace(counts))


def test_uneven_classes_have_the_same_say_unless_the_spec_says_otherwise(
    attempt: Callable[[str], Attempt], tmp_path: Path
) -> None:
    rows = [(f"text {row}", "rare" if row % 10 == 0 else "usual") for row in range(80)]
    digests = {}
    for weights in ("auto", "balanced", "none"):
        one = attempt(weights)
        one.data = tmp_path / "uneven.csv"
        write_csv(one.data, rows)
        manifest = one.run(training={"class_weights": weights, "epochs": 1})
        digests[weights] = next(file.sha256 for file in manifest.files if file.path == "model.safetensors")
        assert manifest.report["training"]["balanced"] == (weights != "none")
    assert digests["auto"] == digests["balanced"] != digests["none"]


def test_a_table_without_a_header_trains_the_same_model(attempt: Callable[[str], Attempt], tmp_path: Path) -> None:
    named, bare = attempt("named"), attempt("bare")
    text = named.data.read_text(encoding="utf-8")
    bare.data = tmp_path / "bare.csv"
    bare.data.write_text(text.split("\n", 1)[1], encoding="utf-8")
    bare.header = ("headline", "quality")
    weights = [
        next(file.sha256 for file in one.run().files if file.path == "model.safetensors") for one in (named, bare)
    ]
    assert weights[0] == weights[1]


def test_a_data_set_of_its_own_judges_all_of_its_rows_and_the_card_names_it(
    attempt: Callable[[str], Attempt], tmp_path: Path
) -> None:
    judged = attempt("judged")
    judged.held_out = tmp_path / "official.csv"
    write_csv(judged.held_out, labelled_texts(40, seed=9))
    manifest = judged.run(validation={"dataset": "official@2"})
    assert (manifest.report["rows"]["train"], manifest.report["rows"]["validation"]) == (130, 40)
    card = (judged.root / "out" / "README.md").read_text(encoding="utf-8")
    assert "Measured on 40 held-out rows (all of `official@2`), trained on 130." in card
    assert Kept(judged.root / "out").facts["dataset"] == {"reference": "official@2", "sha256": None}
    assert "The 40 predictions are kept in `evaluation/held-out.parquet`" in card


def test_rows_of_test_judge_and_those_of_validation_choose_when_to_end(
    attempt: Callable[[str], Attempt], tmp_path: Path
) -> None:
    one = attempt("chosen")
    one.held_out, one.test = tmp_path / "dev.csv", tmp_path / "official.csv"
    write_csv(one.held_out, labelled_texts(40, seed=9))
    write_csv(one.test, labelled_texts(30, seed=10))
    sections: dict[str, Any] = {"validation": {"dataset": "dev@1"}, "test": {"dataset": "official@2"}}
    training = {"epochs": "auto", "batch_size": 64, "checkpoint_every_steps": 1000}
    manifest = one.run(**sections, training=training)
    report, card = manifest.report, (one.root / "out" / "README.md").read_text(encoding="utf-8")
    assert report["rows"] == {"train": 130, "validation": 40, "test": 30, "texts_in_both": 0, "choosing_too": 0}
    assert (report["training"]["rows_choosing"], report["training"]["rows_aside"]) == (40, 0)
    assert "Measured on 30 held-out rows (all of `official@2`), trained on 130. 40 rows of `validation` (all of" in card
    assert "40 validation rows decided when to end." in card
    assert manifest.metrics["test/accuracy"] == report["verdict"]["model"]["accuracy"]
    assert not [name for name in manifest.metrics if name.startswith("validation/")]
    looks = [event for event in one.events if isinstance(event, MetricEvent) and event.name == "validation/loss"]
    assert len(looks) > 1 and report["training"]["best_step"] in [event.step for event in looks]
    assert_told_again(one.root / "out")
    kept = Kept(one.root / "out")
    assert set(kept["part"]) == {"test"} and kept.facts["dataset"]["reference"] == "official@2"


def test_labels_that_became_another_class_are_named_on_the_card(
    attempt: Callable[[str], Attempt], tmp_path: Path
) -> None:
    one = attempt("renamed")
    one.data = tmp_path / "spelled.csv"
    rows = [(f"text {row}", "good" if row % 2 else "bad") for row in range(40)]
    write_csv(one.data, [*rows, ("another", "Good"), ("a third", "BAD")])
    one.run(data={"normalize_labels": True}, training={"epochs": 1})
    card = (one.root / "out" / "README.md").read_text(encoding="utf-8")
    assert 'Labels that were read as another: "Good" as good, "BAD" as bad.' in card


def test_sample_and_split_depend_on_the_seed_alone_and_keep_the_shares(tmp_path: Path) -> None:
    path = tmp_path / "uneven.csv"
    write_csv(path, [(f"text {row}", "rare" if row % 10 == 0 else "usual") for row in range(1000)])
    texts = load_texts(parts_of(CheckedFile.of(path)), "headline", "quality")
    spec = TrainClassifier.model_validate(spec_document(rows=200))
    first, second = sample_and_split(texts, spec), sample_and_split(texts, spec)
    assert first.train.texts == second.train.texts and texts.classes == ("rare", "usual")
    assert (len(first.train), len(first.validation)) == (150, 50)
    assert np.bincount(first.train.labels).tolist() == [15, 135]
    assert first.texts_in_both == 0
    other = TrainClassifier.model_validate(spec_document(rows=200, validation={"seed": 43}))
    assert sample_and_split(texts, other).train.texts != first.train.texts
