"""`train-reranker` from data to a saved cross-encoder: exact resume, verdict, and what other libraries make of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import pipeline

from jobspecs.events import StageEvent
from jobspecs.manifest import Manifest
from tests.models import build_tiny_encoder
from tests.workers.training.attempts import Killed
from tests.workers.training.job_attempts import JobAttempt
from tests.workers.training.kept import Kept, assert_told_again
from tests.workers.training.ranking.ranking_rows import graded_rows, ranked_rows, write_rows
from workers.local_models.ranking_model import load_reranker
from workers.run.context import RunFailed, RunStopped

Attempts = Callable[..., JobAttempt]


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 pairs of 24 queries; with a quarter of these held out, 72 train: 5 steps of 16 per epoch."""
    return write_rows(tmp_path_factory.mktemp("data") / "ranked.csv", ("query", "passage", "label"), ranked_rows())


@pytest.fixture
def attempt(tmp_path: Path, tiny_bert: Path, ranked: Path) -> Attempts:
    def make(name: str, data: Path = ranked, models: dict[str, Path] | None = None, **changes: Any) -> JobAttempt:
        return JobAttempt(tmp_path / name, document(**changes), data, {"model": tiny_bert, **(models or {})})

    return make


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, ranked: Path) -> JobAttempt:
    whole = JobAttempt(tmp_path_factory.mktemp("unbroken"), document(), ranked, {"model": tiny_bert})
    whole.run()
    return whole


def document(**changes: Any) -> dict[str, Any]:
    training = {"epochs": 2, "batch_size": 16, "learning_rate": 2e-3, "max_length": 32, "checkpoint_every_steps": 1}
    columns = {} if "positive" in changes or "passage" in changes else {"passage": "passage", "label": "label"}
    return {
        "kind": "train-reranker",
        "name": "tiny",
        "model": "tiny-bert@1",
        "dataset": "pairs@1",
        "validation": {"fraction": 0.25},
        **columns,
        **changes,
        "training": {**training, **changes.get("training", {})},
    }


def same_result(one: Manifest, other: Manifest) -> bool:
    return one.digest == other.digest and one.metrics == other.metrics


def resumed(attempt: Attempts, step: int, **changes: Any) -> Manifest:
    broken = attempt("broken", **changes)
    with pytest.raises(Killed):
        broken.run(kill_after=step)
    torch.manual_seed(999)  # another process would have other random numbers
    manifest = attempt("resumed", **changes).run(resume_from=broken.newest_checkpoint)
    assert manifest.report["training"]["resumed_at_step"] == step
    return manifest


@pytest.mark.parametrize("step", [1, 5, 9])
def test_a_killed_run_resumes_to_the_same_bytes(step: int, attempt: Attempts, unbroken: JobAttempt) -> None:
    whole = Manifest.model_validate_json((unbroken.output / "manifest.json").read_bytes())
    assert same_result(resumed(attempt, step), whole)


@pytest.mark.parametrize("loss", ["lambdaloss", "listmle"])
def test_a_listwise_run_resumes_to_the_same_bytes(loss: str, attempt: Attempts) -> None:
    whole = attempt("whole", loss=loss).run()
    assert same_result(resumed(attempt, 4, loss=loss), whole)


def test_a_run_asked_to_stop_goes_on_from_its_checkpoint(attempt: Attempts, unbroken: JobAttempt) -> None:
    stopped = attempt("stopped", training={"checkpoint_every_steps": 100})
    with pytest.raises(RunStopped):
        stopped.run(stop_after=6)
    manifest = attempt("resumed").run(resume_from=stopped.newest_checkpoint)
    assert same_result(manifest, Manifest.model_validate_json((unbroken.output / "manifest.json").read_bytes()))


def test_a_checkpoint_of_another_loss_is_refused(attempt: Attempts) -> None:
    broken = attempt("broken", loss="mse")
    with pytest.raises(Killed):
        broken.run(kill_after=3)
    manifest = attempt("resumed").run(resume_from=broken.newest_checkpoint)
    assert manifest.report["training"]["resumed_at_step"] == 0


def test_the_saved_folder_gives_the_same_scores_in_sentence_transformers(unbroken: JobAttempt) -> None:
    library, ours = CrossEncoder(str(unbroken.output), device="cpu"), load_reranker(unbroken.output)
    pairs = [(query, passage) for query, passage, _ in ranked_rows()]
    expected = library.predict(pairs)
    assert np.abs(ours.score_pairs(pairs) - expected).max() < 1e-5
    assert type(library.activation_fn).__name__ == "Sigmoid"
    assert 0 <= expected.min() < expected.max() <= 1
    assert ours.max_tokens == 32


def test_other_libraries_rank_with_the_same_scores_and_cut_long_pairs_alike(unbroken: JobAttempt) -> None:
    library, ours = CrossEncoder(str(unbroken.output), device="cpu"), load_reranker(unbroken.output)
    query, passages = "the storm in town", ["a garden", "storm", "the river " * 40, "", "after the storm, people"]
    expected = ours.score(query, passages)
    hits = library.rank(query, passages, return_documents=True)
    assert [hit["corpus_id"] for hit in hits] == np.argsort(-expected, kind="stable").tolist()
    assert [hit["score"] for hit in hits] == pytest.approx(sorted(expected, reverse=True), abs=1e-5)
    assert [hit["text"] for hit in hits] == [passages[hit["corpus_id"]] for hit in hits]
    classify = pipeline("text-classification", model=str(unbroken.output), device="cpu", truncation=True)
    pairs = [{"text": query, "text_pair": passage} for passage in passages]
    assert [found["score"] for found in classify(pairs)] == pytest.approx(expected, abs=1e-5)


def test_ranked_data_are_judged_by_the_order_of_held_out_queries(unbroken: JobAttempt) -> None:
    manifest = Manifest.model_validate_json((unbroken.output / "manifest.json").read_bytes())
    verdict = manifest.report["verdict"]
    assert manifest.task == "text-ranking"
    assert (verdict["metric"], verdict["judged"]) == ("ndcg_at_10", 6)
    assert [system["system"] for system in verdict["systems"]] == ["fine-tuned", "bi-encoder", "BM25"]
    for system in verdict["systems"]:
        assert 0 <= system["low"] <= system["value"] <= system["high"] <= 1
        assert {"mrr", "average_precision"} <= system.keys()
    assert manifest.report["rows"] == {
        "train": 72,
        "train_negatives": 54,
        "validation": 24,
        "choosing_too": 0,
        "queries_train": 18,
        "queries_validation": 6,
        "overlap": {
            "fields": [
                {"field": "query", "held_out": 6, "trained_on": 0},
                {"field": "passage", "held_out": 24, "trained_on": 0},
            ],
            "left_out": 0,
        },
    }
    card = (unbroken.output / "README.md").read_text(encoding="utf-8")
    assert verdict["sentence"] in card and "CrossEncoder" in card
    assert_told_again(unbroken.output)
    kept, rows = Kept(unbroken.output), ranked_rows()
    assert kept["label"].tolist() == [rows[row - 1][2] for row in kept["row"]]
    assert "0 of 6 held-out queries and 0 of 24 held-out passages are trained on too." in card
    stages = [event.stage for event in unbroken.events if isinstance(event, StageEvent)]
    assert stages == ["prepare", "tokenize", "train", "validate", "baseline", "save"]


def test_graded_pairs_are_judged_by_their_correlation(attempt: Attempts, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "sts.csv", ("sentence1", "sentence2", "score"), graded_rows())
    columns = {"query": "sentence1", "passage": "sentence2", "label": "score", "score_range": [0, 5]}
    training = {"epochs": 6, "learning_rate": 5e-3}
    graded = attempt("graded", data, **columns, training=training)
    manifest = graded.run()
    assert_told_again(graded.output)
    verdict = manifest.report["verdict"]
    assert verdict["metric"] == "spearman"
    assert verdict["systems"][0]["value"] > 0.5


def test_the_data_sets_shape_decides_the_metric_and_never_the_draw(attempt: Attempts, tmp_path: Path) -> None:
    """Ten queries with an order have most pairs; the seed holds out one of them, with five pairs that stand alone."""
    rows = ranked_rows(queries=10) + [(f"storm {n}", f"town {n}", n % 2) for n in range(14)]
    data = write_rows(tmp_path / "mixed.csv", ("query", "passage", "label"), rows)
    drawn = {"validation": {"fraction": 0.25, "seed": 3}, "training": {"epochs": 1, "checkpoint_every_steps": 1000}}
    report = attempt("shape", data, **drawn).run().report
    assert (report["rows"]["queries_validation"], report["rows"]["validation"]) == (6, 9)
    assert (report["verdict"]["metric"], report["verdict"]["judged"]) == ("ndcg_at_10", 1)
    assert attempt("spec", data, **drawn, metric="spearman").run().report["verdict"]["metric"] == "spearman"


def test_held_out_queries_without_an_order_are_refused_before_training(attempt: Attempts, tmp_path: Path) -> None:
    rows = [(f"storm {n}", f"town {n}", n % 2) for n in range(24)]
    data = write_rows(tmp_path / "pairs.csv", ("query", "passage", "label"), rows)
    asked = attempt("asked", data, metric="ndcg_at_10")
    with pytest.raises(RunFailed, match="there is no order to judge"):
        asked.run()
    assert [event.stage for event in asked.events if isinstance(event, StageEvent)] == ["prepare"]


def test_a_listwise_loss_refuses_data_in_which_there_is_nothing_to_order(attempt: Attempts, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "sts.csv", ("sentence1", "sentence2", "score"), graded_rows(20))
    columns = {"query": "sentence1", "passage": "sentence2", "label": "score", "score_range": [0, 5]}
    with pytest.raises(RunFailed, match="no query of the training part has two with unlike labels"):
        attempt("listwise", data, **columns, loss="ranknet").run()


def test_training_again_is_compared_with_the_untouched_base(attempt: Attempts, unbroken: JobAttempt) -> None:
    again = attempt("again", models={"model": unbroken.output}, training={"epochs": 1}).run()
    systems = {system["system"]: system["value"] for system in again.report["verdict"]["systems"]}
    own = Manifest.model_validate_json((unbroken.output / "manifest.json").read_bytes())
    assert systems["untouched base"] == pytest.approx(own.metrics["validation/ndcg_at_10"])
    assert "baseline/base_ndcg_at_10" in again.metrics


def test_positives_alone_get_mined_negatives_and_pooled_candidates(attempt: Attempts, tmp_path: Path) -> None:
    positives = [(query, passage) for query, passage, label in ranked_rows() if label]
    data = write_rows(tmp_path / "positives.csv", ("query", "positive"), positives)
    settings: dict[str, Any] = {
        "positive": "positive",
        "hard_negatives": {"num_negatives": 2, "relative_margin": None, "model": "finder@1"},
    }
    finder = build_tiny_encoder(tmp_path / "finder", seed=11)
    whole = attempt("mined", data, {"negatives": finder}, **settings)
    manifest = whole.run()
    assert manifest.report["rows"]["train"] == 18 * 3
    assert manifest.report["rows"]["validation"] > 6 * 5
    assert [event.stage for event in whole.events if isinstance(event, StageEvent)][:3] == [
        "prepare",
        "mine",
        "tokenize",
    ]
    assert manifest.report["verdict"]["metric"] == "ndcg_at_10"
    assert_told_again(whole.output)
    again = attempt("again", data, {"negatives": finder}, **settings).run()
    assert same_result(again, manifest)


def test_another_architecture_trains_and_resumes_exactly(attempt: Attempts, tmp_path: Path, ranked: Path) -> None:
    models = {"model": build_tiny_encoder(tmp_path / "modernbert", "modernbert")}
    whole = attempt("whole", ranked, models).run()
    broken = attempt("broken", ranked, models)
    with pytest.raises(Killed):
        broken.run(kill_after=4)
    assert same_result(attempt("resumed", ranked, models).run(resume_from=broken.newest_checkpoint), whole)


def test_what_trains_and_what_judges_may_be_different_columns(attempt: Attempts, tmp_path: Path) -> None:
    """Coarse labels made of fine scores train; the fine scores judge."""
    rows = [(one, two, score, 1 - score / 5) for one, two, score in graded_rows()]
    data = write_rows(tmp_path / "sts.csv", ("sentence1", "sentence2", "score", "opposite"), rows)
    columns = {"query": "sentence1", "passage": "sentence2", "label": "score", "threshold": 3}
    training = {"epochs": 6, "learning_rate": 5e-3}
    by_score = attempt("one", data, **columns, judge={"label": "score", "score_range": [0, 5]}, training=training).run()
    by_opposite = attempt("other", data, **columns, judge={"label": "opposite"}, training=training).run()
    values = [manifest.metrics["validation/spearman"] for manifest in (by_score, by_opposite)]
    assert values[0] > 0.3 and values[0] == pytest.approx(-values[1])
    weights = [
        next(file.sha256 for file in m.files if file.path == "model.safetensors") for m in (by_score, by_opposite)
    ]
    assert weights[0] == weights[1]


def test_a_query_with_hundreds_of_passages_is_no_diverged_training(attempt: Attempts, tmp_path: Path) -> None:
    """ListMLE sums over a query's ranking: 240 passages start at about 240 ln 240 - 240 = 1,075 nats."""
    data = write_rows(tmp_path / "long.csv", ("query", "passage", "label"), ranked_rows(queries=2, passages=240))
    whole = attempt("whole", data, loss="listmle", validation={"fraction": 0.5}, training={"epochs": 1})
    assert whole.run().metrics["train/loss"] > 1000


def test_queries_of_test_judge_and_those_of_validation_are_mined_for_but_do_not_train(
    attempt: Attempts, tmp_path: Path
) -> None:
    parts = ["train"] * 14 + ["dev"] * 4 + ["test"] * 6
    positives = [(query, passage) for query, passage, label in ranked_rows() if label]
    rows = [(*pair, part) for pair, part in zip(positives, parts, strict=True)]
    data = write_rows(tmp_path / "positives.csv", ("query", "positive", "part"), rows)
    settings: dict[str, Any] = {
        "positive": "positive",
        "hard_negatives": {"num_negatives": 2, "relative_margin": None},
        "validation": {"column": "part", "values": ["dev"]},
        "test": {"column": "part", "values": ["test"]},
        "training": {"epochs": 1, "checkpoint_every_steps": 1000},
    }
    whole = attempt("tested", data, **settings)
    manifest = whole.run()
    assert (manifest.report["rows"]["train"], manifest.report["rows"]["validation"]) == (14 * 3, 4 * 3)
    assert manifest.report["rows"]["queries_test"] == 6 and "test/ndcg_at_10" in manifest.metrics
    assert "`part` is `test`" in (whole.output / "README.md").read_text(encoding="utf-8")
    assert_told_again(whole.output)
    assert set(Kept(whole.output)["part"]) == {"test"}
