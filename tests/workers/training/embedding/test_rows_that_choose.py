"""Rows of `test` judge an embedder, and those of `validation` choose when its training ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.workers.training.embedding.embedder_attempts import SEARCH, EmbedderAttempt, questions, write_table
from tests.workers.training.kept import Kept, assert_told_again


def test_questions_of_test_judge_and_those_of_validation_choose(tmp_path: Path, tiny_bert: Path) -> None:
    parts = ["train"] * 150 + ["dev"] * 60 + ["test"] * 30
    rows = [(*row, part) for row, part in zip(questions(240), parts, strict=True)]
    data = write_table(tmp_path / "parts.csv", ("question", "answer", "part"), rows)
    attempt = EmbedderAttempt(tmp_path, tiny_bert, data)
    sections: dict[str, Any] = {
        "validation": {"column": "part", "values": ["dev"]},
        "test": {"column": "part", "values": ["test"]},
        "hard_negatives": {"num_negatives": 1, "range_max": 10},
    }
    training = {"epochs": "auto", "batch_size": 64, "checkpoint_every_steps": 1000}
    manifest = attempt.run(**SEARCH, **sections, training=training)
    assert (manifest.report["rows"]["train"], manifest.report["rows"]["validation"]) == (150, 60)
    assert manifest.report["training"]["rows_choosing"] == 60
    assert manifest.report["verdict"]["judged"] <= 30 and "test/ndcg_at_10" in manifest.metrics
    assert_told_again(attempt.root / "out")
    assert set(Kept(attempt.root / "out")["row"]) <= set(range(211, 241))
