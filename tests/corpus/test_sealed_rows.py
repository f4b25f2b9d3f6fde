"""Rows that are kept for a later judgement: a search and the judgement after it must mean the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from corpus.dealing import class_split, example_split
from corpus.pair_splits import query_split, tied_split
from corpus.splits import TEST, VALIDATION, SplitRows
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.kinds.train_embedder import TrainEmbedder
from jobspecs.kinds.train_reranker import TrainReranker

ROWS = 400
COLUMN = {"column": "split", "values": ["test"]}
KINDS = ("train-classifier", "train-embedder", "train-reranker", "finetune-llm")


def dealt(kind: str, roles: np.ndarray[Any, Any], **sections: Any) -> SplitRows:
    common = {"kind": kind, "name": "x", "model": "base@1", "dataset": "rows@1", **sections}
    texts = np.arange(2 * ROWS).reshape(-1, 2) // 3
    if kind == "train-classifier":
        spec = TrainClassifier.model_validate({**common, "text": "t", "label": "l"})
        return class_split(spec, roles, np.arange(ROWS) % 3, ["a", "b", "c"], texts[:, 0])
    if kind == "finetune-llm":
        return example_split(FinetuneLlm.model_validate(common), roles, texts)
    if kind == "train-embedder":
        embedder = TrainEmbedder.model_validate({**common, "anchor": "a", "positive": "b"})
        return tied_split(embedder, roles=roles, texts=texts, own=texts)
    reranker = TrainReranker.model_validate({**common, "query": "q", "passage": "p", "label": "l"})
    return query_split(reranker, roles=roles, queries=np.arange(ROWS) // 4, texts=texts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("test", [{"fraction": 0.2, "seed": 5}, COLUMN], ids=["drawn", "named"])
@pytest.mark.parametrize("rows", [None, 200])
def test_what_judges_in_the_end_was_in_no_part_of_the_search(kind: str, test: dict[str, Any], rows: int | None) -> None:
    roles = np.where(np.arange(ROWS) % 5 == 0, TEST, 0).astype(np.int8) if test is COLUMN else np.zeros(ROWS, np.int8)
    search = dealt(kind, roles, rows=rows, test={**test, "sealed": True})
    judgement = dealt(kind, roles, rows=rows, test=test)
    assert len(search.train) and len(search.validation) and not len(search.choosing)
    judging = set(judgement.validation.tolist())
    assert len(judging) > 20
    assert judging.isdisjoint([*search.train.tolist(), *search.validation.tolist()])
    assert judging.isdisjoint(judgement.train.tolist())
    if rows is None:
        # What the search judged by trains again.
        assert {*search.train.tolist(), *search.validation.tolist()} == {*judgement.train.tolist()}


@settings(max_examples=40, deadline=None)
@given(fraction=st.sampled_from([0.1, 0.3, 0.6]), seed=st.integers(0, 99), held_out=st.booleans())
def test_rows_of_validation_are_never_drawn_to_judge(fraction: float, seed: int, held_out: bool) -> None:
    roles = np.where(np.arange(ROWS) % 4 == 0, VALIDATION, 0).astype(np.int8) if held_out else np.zeros(ROWS, np.int8)
    validation = {"column": "split", "values": ["dev"]} if held_out else {"fraction": 0.25}
    split = dealt("train-classifier", roles, validation=validation, test={"fraction": fraction, "seed": seed})
    parts = [set(part.tolist()) for part in (split.train, split.validation, split.choosing)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == ROWS
    if held_out:
        assert parts[2] == set(np.flatnonzero(roles).tolist())
        assert len(parts[1]) == round(0.75 * ROWS * fraction)


def test_rows_to_judge_are_named_or_drawn_and_say_so() -> None:
    spec = {"kind": "train-classifier", "name": "x", "model": "b@1", "dataset": "r@1", "text": "t", "label": "l"}
    read = TrainClassifier.model_validate({**spec, "test": {"fraction": 0.2, "sealed": True}})
    assert (read.judging_part, read.validation.fraction) == ("validation", 0.25)
    assert read.model_dump()["test"].keys() == {"dataset", "column", "values", "fraction", "seed", "sealed"}
    named = TrainClassifier.model_validate({**spec, "test": COLUMN})
    assert (named.judging_part, named.validation.fraction) == ("test", 0)
    # As specs were kept before rows could be drawn or sealed: equal ones stay equal.
    assert named.model_dump()["test"] == {"dataset": None, **COLUMN}
    for wrong in ({"sealed": True}, {**COLUMN, "fraction": 0.2}, {"fraction": 1}):
        with pytest.raises(ValidationError):
            TrainClassifier.model_validate({**spec, "test": wrong})
