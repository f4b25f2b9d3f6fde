"""An interrupted embedder ends with the same bytes as one that was never interrupted, dropout included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from jobspecs.manifest import Manifest
from tests.workers.training.attempts import Killed
from tests.workers.training.embedding.embedder_attempts import (
    CLASSES,
    PAIRS,
    SEARCH,
    EmbedderAttempt,
    questions,
    scored_pairs,
    write_table,
)

RUNS: dict[str, dict[str, Any]] = {
    "cosent": PAIRS,
    "matryoshka": {**PAIRS, "loss": "angle", "matryoshka_dims": [32, 8]},
    "no duplicates": SEARCH,
    "cached": {**SEARCH, "training": {"mini_batch_size": 5}, "prompts": {"query": "ask: "}},
    "mined": {**SEARCH, "hard_negatives": {"num_negatives": 2}, "loss": "triplet"},
    "classes": CLASSES,
    "static": {**PAIRS, "static": True},
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tables")
    pairs = scored_pairs(80)
    return {
        "a": write_table(root / "pairs.csv", ("a", "b", "likeness"), pairs),
        "question": write_table(root / "search.csv", ("question", "answer"), questions(80, answers=60)),
        "text": write_table(root / "classes.csv", ("text", "topic"), [(a, str(int(s) % 3)) for a, _, s in pairs]),
    }


def attempt_at(name: str, root: Path, model: Path, tables: dict[str, Path]) -> EmbedderAttempt:
    columns = RUNS[name]
    first = columns.get("sentence1") or columns.get("anchor") or columns["text"]
    return EmbedderAttempt(root, model, tables[first])


def changes_of(name: str) -> dict[str, Any]:
    return {key: dict(value) if isinstance(value, dict) else value for key, value in RUNS[name].items()}


def same_result(one: Manifest, other: Manifest) -> bool:
    return one.digest == other.digest and one.metrics == other.metrics


@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_resumes_to_the_same_bytes(
    name: str, tmp_path: Path, tiny_bert: Path, tables: dict[str, Path]
) -> None:
    unbroken = attempt_at(name, tmp_path / "whole", tiny_bert, tables).run(**changes_of(name))
    steps = unbroken.report["training"]["steps"]
    for step in {1, steps // 2, steps - 1} if name in ("cached", "no duplicates") else {steps // 2 + 1}:
        broken = attempt_at(name, tmp_path / f"broken{step}", tiny_bert, tables)
        with pytest.raises(Killed):
            broken.run(kill_after_step=step, **changes_of(name))
        torch.manual_seed(999)  # another process would have other random numbers
        resumed = attempt_at(name, tmp_path / f"resumed{step}", tiny_bert, tables)
        manifest = resumed.run(resume_from=broken.newest_checkpoint, **changes_of(name))
        assert same_result(manifest, unbroken)
        assert manifest.report["training"]["resumed_at_step"] == step


def test_other_prompts_or_another_loss_do_not_continue_a_checkpoint(
    tmp_path: Path, tiny_bert: Path, tables: dict[str, Path]
) -> None:
    broken = attempt_at("cosent", tmp_path / "broken", tiny_bert, tables)
    with pytest.raises(Killed):
        broken.run(kill_after_step=3, **changes_of("cosent"))
    changes: list[dict[str, Any]] = [{"loss": "angle"}, {"prompts": {"text": "text: "}}]
    for number, change in enumerate(changes):
        other = attempt_at("cosent", tmp_path / f"other{number}", tiny_bert, tables)
        manifest = other.run(resume_from=broken.newest_checkpoint, **changes_of("cosent"), **change)
        assert manifest.report["training"]["resumed_at_step"] == 0
