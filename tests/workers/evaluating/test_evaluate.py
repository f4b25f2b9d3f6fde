"""`evaluate`: figures of models on the same rows, their differences, and what flipped."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from jobspecs.dialect import WRITTEN_CSV
from jobspecs.manifest import Manifest
from storage.tabular import detect_format, read_rows
from tests.language_models import build_tiny_llm
from tests.models import build_tiny_encoder, labelled_texts
from tests.workers.training.attempts import Killed
from tests.workers.training.job_attempts import JobAttempt
from workers.engines.embedded.tasks.text_classifier import Classifier
from workers.judging.perplexity import perplexity_of, pieces_of
from workers.local_models.base_model import load_base, load_causal_lm, load_scorer
from workers.local_models.embedding_model import load_embedder, write_embedder
from workers.local_models.ranking_model import load_reranker
from workers.predicting import predictors
from workers.run.context import RunFailed
from workers.training.llm.decoder import decoder_of
from workers.training.llm.likelihood import log_probs_of

ROWS, WINDOW = 40, 10
Attempts = Callable[..., JobAttempt]


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictors._Encoder, "window", WINDOW)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    encoders = [build_tiny_encoder(root / f"encoder{seed}", seed=seed) for seed in (7, 8)]
    for number, encoder in enumerate(encoders, start=1):
        heads = {
            f"classifier{number}": load_base(encoder, ("good", "bad"), 3),
            f"reranker{number}": load_scorer(encoder, 3),
        }
        for name, loaded in heads.items():
            loaded.model.save_pretrained(root / name)
            loaded.tokenizer.save_pretrained(root / name)
        (root / f"embedder{number}").mkdir()
        write_embedder(root / f"embedder{number}", load_embedder(encoder))
        build_tiny_llm(root / f"llm{number}", seed=number)
    return {path.name: path for path in root.iterdir()}


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "texts.csv", ("text", "label"), labelled_texts(ROWS))


@pytest.fixture
def attempt(tmp_path: Path, models: dict[str, Path]) -> Attempts:
    def make(name: str, used: Sequence[str], data: Path, **changes: Any) -> JobAttempt:
        roles = {("model" if n == 1 else f"model{n}"): models[one] for n, one in enumerate(used, start=1)}
        spec = {"kind": "evaluate", "name": "judged", "models": [f"{one}@1" for one in used], "dataset": "d@1"}
        judge = {"judge": models["llm2"]} if "judge" in changes else {}
        return JobAttempt(tmp_path / name, {**spec, "checkpoint_every_rows": 1, **changes}, data, {**roles, **judge})

    return make


def rows_of(attempt: JobAttempt, manifest: Manifest) -> list[dict[str, Any]]:
    (file,) = manifest.files
    dialect = WRITTEN_CSV if file.path.endswith("csv.gz") else None
    return list(read_rows(attempt.output / file.path, detect_format(file.path, dialect)))


CLASSES = {"task": "classification", "text": "text", "label": "label"}


def test_classifiers_have_figures_with_intervals_and_rows_that_flipped(
    attempt: Attempts, models: dict[str, Path], labelled: Path
) -> None:
    whole = attempt("whole", ["classifier1", "classifier2"], labelled, **CLASSES)
    manifest = whole.run()
    metrics, report = manifest.metrics, manifest.report
    texts, truth = zip(*labelled_texts(ROWS), strict=True)
    said = [
        [one[0].label for one in Classifier.load(models[name]).classify(texts)]
        for name in ("classifier1", "classifier2")
    ]
    right = [np.array([found == wanted for found, wanted in zip(one, truth, strict=True)]) for one in said]
    assert metrics["accuracy"] == pytest.approx(right[0].mean()) and metrics["model2/accuracy"] == right[1].mean()
    assert metrics["macro_f1"] == pytest.approx(f1_score(truth, said[0], average="macro", zero_division=0))
    assert metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"]
    assert metrics["difference/accuracy"] == pytest.approx(right[0].mean() - right[1].mean())
    assert metrics["difference/accuracy_low"] <= metrics["difference/accuracy"] <= metrics["difference/accuracy_high"]
    (pair,) = report["evaluation"]["compared"]
    assert (pair["only_first"], pair["only_second"]) == ((right[0] & ~right[1]).sum(), (~right[0] & right[1]).sum())
    flips = report["flipped"][0]["rows"]
    assert {flip["row"] - 1 for flip in flips} <= set(np.flatnonzero(right[0] != right[1]).tolist())
    rows = rows_of(whole, manifest)
    assert [row["model2_label"] for row in rows] == said[1]
    assert [row["flipped"] == "True" for row in rows] == (right[0] != right[1]).tolist()
    one = report["evaluation"]["models"]["model"]
    assert one["reference"] == "tests/model@1" and set(one["per_class"]) == {"good", "bad"}
    assert sum(part["rows"] for part in one["calibration"]) == ROWS
    assert "McNemar" in report["verdict"]["sentence"]
    assert "classifier1@1" in report["verdict"]["sentence"], "as people call it"
    assert [one["system"] for one in report["verdict"]["systems"]] == ["classifier1@1", "classifier2@1"]


@pytest.mark.parametrize("asked", [0, 2, 5, 7])
def test_a_killed_evaluation_ends_with_the_same_bytes(asked: int, attempt: Attempts, labelled: Path) -> None:
    whole = attempt("whole", ["classifier1", "classifier2"], labelled, **CLASSES).run()
    broken = attempt("broken", ["classifier1", "classifier2"], labelled, **CLASSES)
    with pytest.raises(Killed):
        broken.run(kill_after=asked, stage="ask")
    resumed = attempt("resumed", ["classifier1", "classifier2"], labelled, **CLASSES)
    manifest = resumed.run(resume_from=broken.newest_checkpoint if asked else None)
    assert manifest.digest == whole.digest and manifest.metrics == whole.metrics
    assert manifest.report["evaluating"]["resumed_at_row"] == asked * WINDOW


def test_similarity_of_embedders_and_rerankers_is_compared_on_the_same_pairs(
    attempt: Attempts, models: dict[str, Path], tmp_path: Path
) -> None:
    texts = [text for text, _ in labelled_texts(30)]
    scores = np.random.default_rng(1).uniform(0, 5, 29).round(1).tolist()
    data = write_csv(tmp_path / "sts.csv", ("a", "b", "score"), list(zip(texts, texts[1:], scores, strict=False)))
    whole = attempt("whole", ["embedder1", "reranker1"], data, task="similarity", pair=["a", "b"], score="score")
    metrics = whole.run().metrics
    vectors = load_embedder(models["embedder1"]).encode(texts)
    cosines = (vectors[:-1] * vectors[1:]).sum(axis=1)
    assert metrics["spearman"] == pytest.approx(spearmanr(scores, cosines).statistic, abs=1e-4)
    assert "difference/spearman_low" in metrics and "model2/pearson" in metrics


def test_retrieval_finds_what_belongs_to_each_query(attempt: Attempts, tmp_path: Path) -> None:
    texts = [text for text, _ in labelled_texts(24)]
    # Each query is its own passage but for one word, and the first query has two passages.
    rows = [(text, f"{text} town") for text in texts] + [(texts[0], "the old town")]
    data = write_csv(tmp_path / "search.csv", ("q", "p"), rows)
    whole = attempt("whole", ["embedder1"], data, task="retrieval", query="q", passage="p")
    manifest = whole.run()
    assert 0.3 < manifest.metrics["mrr"] <= 1 and manifest.metrics["recall_at_100"] == 1
    found = rows_of(whole, manifest)
    assert found[-1]["model_mrr"] == "" and float(found[0]["model_ndcg_at_10"]) > 0
    assert manifest.report["evaluation"]["models"]["model"]["judged"] == len(texts)


def test_reranking_orders_the_passages_of_each_query(
    attempt: Attempts, models: dict[str, Path], tmp_path: Path
) -> None:
    rows = [(f"query {n}", f"{text} {n}", int(n % 3 == 0)) for n, (text, _) in enumerate(labelled_texts(30))]
    rows = [(f"query {n // 3}", text, label) for n, (_, text, label) in enumerate(rows)]
    data = write_csv(tmp_path / "ranks.csv", ("q", "p", "label"), rows)
    settings = {"task": "reranking", "query": "q", "passage": "p", "label": "label"}
    metrics = attempt("whole", ["reranker1", "embedder1"], data, **settings).run().metrics
    scores = load_reranker(models["reranker1"]).score_pairs([(q, p) for q, p, _ in rows]).reshape(10, 3)
    ranks = 1 + (scores[:, 1:] > scores[:, :1]).sum(axis=1)
    assert metrics["mrr"] == pytest.approx((1 / ranks).mean(), abs=1e-6)
    assert metrics["ndcg_at_10"] == pytest.approx((1 / np.log2(1 + ranks)).mean(), abs=1e-6)


def test_perplexity_is_that_of_the_texts_together_and_short_ones_are_left_out(
    attempt: Attempts, models: dict[str, Path], tmp_path: Path
) -> None:
    texts = [*(text for text, _ in labelled_texts(9)), "a"]
    data = write_csv(tmp_path / "texts.csv", ("text",), [(text,) for text in texts])
    manifest = attempt("whole", ["llm1", "llm2"], data, task="perplexity", text="text").run()
    loaded = load_causal_lm(models["llm1"])
    pieces = pieces_of(loaded.tokenizer, texts[:-1])
    decoder = decoder_of(loaded.model, pad_id=loaded.pad_id, packing=True)
    expected = perplexity_of(log_probs_of(decoder, pieces, next(loaded.model.parameters()).device), pieces)
    assert manifest.metrics["perplexity"] == pytest.approx(expected.perplexity.value, rel=1e-4)
    assert manifest.metrics["bits_per_byte"] == pytest.approx(expected.bits_per_byte.value, rel=1e-4)
    assert manifest.metrics["bits_per_byte_low"] == pytest.approx(expected.bits_per_byte.low, rel=1e-4)
    assert manifest.report["evaluation"]["models"]["model"]["left_out"] == 1
    assert math.isfinite(manifest.metrics["difference/bits_per_byte_high"])


def test_answers_are_measured_by_right_ones_a_schema_and_a_judge(attempt: Attempts, tmp_path: Path) -> None:
    lines = [
        {"talk": [{"role": "user", "content": text}, {"role": "assistant", "content": label}]}
        for text, label in labelled_texts(6)
    ]
    data = tmp_path / "talks.jsonl"
    data.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    settings = {
        "task": "generation",
        "messages": "talk",
        "json_schema": {"type": "object"},
        "generation": {"max_new_tokens": 5},
        "judge": {"model": "llm2@1"},
    }
    whole = attempt("whole", ["llm1", "llm2"], data, **settings)
    manifest = whole.run()
    assert manifest.metrics["exact_match"] == manifest.metrics["valid_json"] == 0
    assert 0 <= manifest.metrics["rouge_l"] <= 1
    assert manifest.metrics["preferred"] + manifest.metrics["model2/preferred"] == pytest.approx(1)
    rows = rows_of(whole, manifest)
    assert {row["model_preferred"] for row in rows} <= {0, 0.5, 1} and isinstance(rows[0]["model2_answer"], str)


@pytest.mark.parametrize(
    ("used", "changes", "message"),
    [
        (["reranker1"], CLASSES, "reranker1@1 is a reranker; classification is for a classifier"),
        (["classifier1", "encoder7"], CLASSES, "encoder7@1 is a model without a task"),
        (["llm1"], CLASSES, "is a language model"),
        (["classifier1"], {**CLASSES, "label": "absent"}, "absent"),
        (["classifier1"], {**CLASSES, "label": "text"}, "none of its labels is a class of the models"),
        (["embedder1"], {"task": "similarity", "pair": ["text", "label"], "score": "label"}, "is not a number"),
    ],
)
def test_what_can_not_be_told_is_refused(
    used: list[str], changes: dict[str, Any], message: str, attempt: Attempts, labelled: Path
) -> None:
    with pytest.raises(RunFailed, match=message):
        attempt("broken", used, labelled, **changes).run()


def test_a_data_set_without_rows_is_refused(attempt: Attempts, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="no rows"):
        attempt("broken", ["classifier1"], write_csv(tmp_path / "e.csv", ("text", "label"), []), **CLASSES).run()
