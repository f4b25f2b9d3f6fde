from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

from jobspecs.kinds.predict import Predict
from jobspecs.manifest import Manifest, read_manifest
from jobspecs.model_tasks import task_of_model
from tests.models import labelled_texts
from tests.workers.training.attempts import Attempt
from workers.engines.embedded.app import create_app
from workers.engines.embedded.dialects.tokenizing import TokenizeRoute
from workers.engines.embedded.tasks.classifier import ServedClassifier
from workers.engines.embedded.tasks.text_classifier import LinearClassifier, load_text_classifier
from workers.local_models.base_model import load_base, load_classifier
from workers.predicting.predictors import PREDICTORS, task_of_folder
from workers.run.context import RunFailed, RunStopped
from workers.training.classification.linear import train_linear


class LinearAttempt(Attempt):
    def __init__(self, root: Path, data: Path) -> None:
        super().__init__(root, root, data)
        self.model = None  # type: ignore[assignment]

    def document(self, **changes: Any) -> dict[str, Any]:
        named = {"kind": "train-classifier", "name": "cheap", "model": "builtin:tfidf-svm", "dataset": "texts@1"}
        return {**named, "text": "headline", "label": "quality", **changes}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    attempt = LinearAttempt(tmp_path_factory.mktemp("linear"), dataset)
    attempt.run()
    return attempt.root / "out"


def bytes_of(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_artifact_holds_plain_numbers_and_text(trained: Path) -> None:
    manifest = read_manifest(trained)
    assert {file.path for file in manifest.files} == {
        "README.md",
        "config.json",
        "evaluation/held-out.parquet",
        "model.safetensors",
        "vocabulary.json",
    }
    assert manifest.task == "text-classification"
    config = json.loads((trained / "config.json").read_bytes())
    assert task_of_model(config, [file.path for file in manifest.files]) == "text-classification"


def test_it_is_judged_like_any_other_with_an_interval_and_beside_the_baselines(trained: Path) -> None:
    manifest = read_manifest(trained)
    verdict = manifest.report["verdict"]
    assert verdict["model"]["accuracy_low"] <= verdict["model"]["accuracy"] <= verdict["model"]["accuracy_high"]
    assert [one["system"] for one in verdict["baselines"]] == ["TF-IDF + linear SVM", "majority class"]
    assert "raining helped" in verdict["sentence"] and "ine-tuning" not in verdict["sentence"]
    assert "builtin:tfidf-svm" not in verdict["sentence"]
    card = (trained / "README.md").read_text(encoding="utf-8")
    assert "trained as `builtin:tfidf-svm`" in card and "learning_rate" not in card


def scikit_learn(texts: list[str], labels: list[int]) -> Any:
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\b\w+\b", sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    svm = CalibratedClassifierCV(LinearSVC(random_state=42), ensemble=False, cv=StratifiedKFold(5))
    return make_pipeline(make_union(words, characters), svm).fit(texts, labels)


@pytest.mark.parametrize("classes", [2, 3])
def test_what_is_served_is_scikit_learns_pipeline_but_for_the_noise_of_floats(tmp_path: Path, classes: int) -> None:
    texts = [text for text, _ in labelled_texts(90)]
    labels = [hash_of(text) % classes for text in texts]
    names = tuple("abc"[:classes])
    train_linear(texts, np.array(labels), names, balanced=False, seed=42).model.save(tmp_path)
    asked = [*(text for text, _ in labelled_texts(30, seed=5)), "never seen: ßøµ", "!", " "]
    expected = scikit_learn(texts, labels)
    model = load_text_classifier(tmp_path)
    served = [{one.label: one.score for one in found} for found in model.classify(asked)]
    np.testing.assert_allclose(
        [[one[name] for name in names] for one in served], expected.predict_proba(asked), atol=2e-6
    )
    alone = [{one.label: one.score for one in found} for text in asked for found in model.classify([text])]
    assert alone == served
    raw = [{one.label: one.score for one in found} for found in model.classify(asked, "none")]
    svm = expected[-1].calibrated_classifiers_[0].estimator
    decisions = svm.decision_function(expected[0].transform(asked))
    ours = [one["b"] for one in raw] if classes == 2 else [[one[name] for name in names] for one in raw]
    np.testing.assert_allclose(ours, decisions, atol=2e-6)


def hash_of(text: str) -> int:
    return hashlib.sha256(text.split()[0].encode()).digest()[0]


def test_the_python_of_the_card_gives_the_same_probabilities(trained: Path) -> None:
    card = (trained / "README.md").read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0].replace("path/to/this/folder", str(trained))
    place: dict[str, Any] = {}
    exec(code, place)  # noqa: S102
    texts = [text for text, _ in labelled_texts(20, seed=3)]
    ours = load_text_classifier(trained).classify(texts)
    for row, scores in zip(place["probabilities"](texts), ours, strict=True):
        assert [row[["bad", "good"].index(one.label)] for one in scores] == pytest.approx(
            [one.score for one in scores], abs=2e-6
        )


def test_an_interrupted_run_begins_anew_and_ends_with_the_same_bytes(
    trained: Path, tmp_path: Path, dataset: Path
) -> None:
    with pytest.raises(RunStopped):
        LinearAttempt(tmp_path / "stopped", dataset).run(stop_after_step=0)
    again = LinearAttempt(tmp_path / "again", dataset)
    again.run()
    first, second = bytes_of(trained), bytes_of(again.root / "out")
    assert first == second


def test_a_class_with_one_row_to_train_on_leaves_probabilities_uncalibrated_and_says_so() -> None:
    result = train_linear(["a dog", "a cat", "the cat"], np.array([0, 1, 1]), ("dog", "cat"), balanced=True, seed=0)
    assert result.folds == 0 and "not calibrated" in result.sentence
    assert result.model.probabilities(["a dog", "one cat"]).argmax(axis=1).tolist() == [0, 1]


def test_texts_without_a_word_are_learnt_by_their_characters_or_refused() -> None:
    result = train_linear(["!!!", "???"] * 3, np.array([0, 1] * 3), ("a", "b"), balanced=False, seed=0)
    assert result.model.terms["words"] == [] and result.model.probabilities(["!!!"]).argmax() == 0
    with pytest.raises(RunFailed, match="no word"):
        train_linear([" ", "  "], np.array([0, 1]), ("a", "b"), balanced=False, seed=0)


@pytest.mark.parametrize("fault", ["short", "nan", "terms", "absent", "labels"])
def test_files_that_do_not_fit_each_other_are_refused(tmp_path: Path, fault: str) -> None:
    texts = [text for text, _ in labelled_texts(30)]
    train_linear(texts, np.arange(30) % 2, ("a", "b"), balanced=False, seed=0).model.save(tmp_path)
    weights, arrays = tmp_path / "model.safetensors", load_file(tmp_path / "model.safetensors")
    if fault == "short":
        save_file({**arrays, "coefficients": arrays["coefficients"][:, 1:].copy()}, weights)
    elif fault == "nan":
        save_file({**arrays, "slope": arrays["slope"] * np.float32("nan")}, weights)
    elif fault == "terms":
        (tmp_path / "vocabulary.json").write_text('{"words": ["a"], "characters": ["aaa"]}')
    elif fault == "absent":
        (tmp_path / "vocabulary.json").unlink()
    else:
        (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text().replace('"1": "b"', '"7": "b"'))
    with pytest.raises(RunFailed, match="linear model"):
        load_text_classifier(tmp_path)


def test_nothing_is_fine_tuned_from_it(trained: Path) -> None:
    with pytest.raises(RunFailed, match="model: builtin:tfidf-svm"):
        load_base(trained, ("a", "b"), 0)
    with pytest.raises(RunFailed, match="model: builtin:tfidf-svm"):
        load_classifier(trained)


def test_words_are_its_tokens(trained: Path) -> None:
    model = load_text_classifier(trained)
    assert isinstance(model, LinearClassifier)
    assert model.tokenize(["two words", "and three more"]).lengths.tolist() == [2, 3]
    assert model.classify([]) == []


def test_rows_that_only_judge_are_given_by_test(tmp_path: Path, dataset: Path) -> None:
    attempt = LinearAttempt(tmp_path, dataset)
    attempt.test = dataset
    manifest: Manifest = attempt.run(test={"dataset": "others@1"})
    assert "test/accuracy" in manifest.metrics


def test_it_answers_the_routes_of_classifiers(trained: Path) -> None:
    served = ServedClassifier(load_text_classifier(trained), TokenizeRoute(trained))
    app = create_app("alice/cheap@1", "d" * 64, served, "key")

    async def asked(path: str, body: dict[str, Any]) -> httpx.Response:
        headers = {"Authorization": "Bearer key"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://engine", headers=headers) as client:
            return await client.post(path, json=body)

    texts = [text for text, _ in labelled_texts(3, seed=8)]
    expected = [[(one.label, one.score) for one in found] for found in load_text_classifier(trained).classify(texts)]
    ours = asyncio.run(asked("/classify", {"inputs": texts})).json()["results"]
    assert [[(one["label"], one["score"]) for one in found] for found in ours] == expected
    theirs = asyncio.run(asked("/predict", {"inputs": [[text] for text in texts]})).json()
    assert theirs == ours
    raw = asyncio.run(asked("/predict", {"inputs": texts[0], "raw_scores": True})).json()
    assert sum(one["score"] for one in raw) == pytest.approx(0)
    refused = asyncio.run(asked("/tokenize", {"inputs": "a"}))
    assert refused.status_code == 422 and "no tokenizer" in refused.text
    assert served.info()["model_type"]["classifier"]["id2label"] == {"0": "bad", "1": "good"}
    served.close()


def test_a_batch_of_rows_is_labelled_with_it(trained: Path, tmp_path: Path) -> None:
    spec = Predict.model_validate(
        {"kind": "predict", "name": "said", "model": "cheap@1", "dataset": "d@1", "text": "headline"}
    )
    assert task_of_folder(trained) == "text-classification"
    texts = [text for text, _ in labelled_texts(3, seed=8)]
    said = PREDICTORS["text-classification"](spec, trained, None).say(texts, 1, lambda done: None)
    assert [one["label"] for one in said] == [found[0].label for found in load_text_classifier(trained).classify(texts)]
