"""Rows of `test` judge an embedder, and those of `validation` choose when its training ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from corpus.checks.rows import CheckedFile
from corpus.held_out import parts_of
from corpus.splits import VALIDATION
from jobspecs.kinds.hard_negatives import HardNegatives
from jobspecs.registry import parse_spec
from tests.workers.training.embedding.embedder_attempts import SEARCH, EmbedderAttempt, questions, write_table
from tests.workers.training.kept import Kept, assert_told_again
from workers.training.embedding.data import load_rows
from workers.training.embedding.negatives import mine_negatives


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


def test_answers_that_only_choose_are_no_negatives_of_rows_that_train(tmp_path: Path) -> None:
    data = CheckedFile.of(write_table(tmp_path / "rows.csv", ("question", "answer"), questions(60)))
    spec: Any = parse_spec({"kind": "train-embedder", "name": "n", "model": "m", "dataset": "d", **SEARCH})
    loaded = load_rows(parts_of(data), spec)
    rows = replace(loaded, roles=np.where(np.arange(60) < 30, VALIDATION, 0).astype(np.int8))
    same = np.ones((200, 2), dtype=np.float32)
    for margin in (None, 0.5):  # all are mined, or all are drawn by chance
        wanted = HardNegatives(num_negatives=3, range_max=40, relative_margin=margin)
        mined = mine_negatives(rows, lambda texts, prompt: same[: len(texts)], wanted, seed=1)
        assert (mined.mined, mined.drawn) == ((180, 0) if margin is None else (0, 180))
        trained = rows.columns[30:, 1]
        assert np.isin(mined.rows.columns[30:, 2:], trained).all()
        assert not np.isin(mined.rows.columns[:30, 2:], trained).all()
