"""What the specs of cross-encoders and of scoring refuse, and why."""

from __future__ import annotations

from typing import Any

import pytest

from jobspecs.kinds.score_pairs import ScorePairs
from jobspecs.kinds.train_reranker import TrainReranker
from jobspecs.problems import InvalidInput
from jobspecs.profile import ColumnProfile, DatasetProfile
from jobspecs.registry import parse_spec

RERANKER = {"kind": "train-reranker", "name": "a", "model": "m@1", "dataset": "d@1"}
LABELLED = {**RERANKER, "passage": "p", "label": "l"}
SCORING = {"kind": "score-pairs", "name": "a", "teacher": "t@1", "dataset": "d@1", "pair": ["q", "p"]}


def profile(**columns: ColumnProfile) -> DatasetProfile:
    return DatasetProfile(rows=20, columns=columns)


def column(kind: Any = "text", values: dict[str, int] | None = None, empty: int = 0) -> ColumnProfile:
    return ColumnProfile(
        kind=kind,
        empty=empty,
        distinct=len(values or {}) or 20,
        values=values or {},
        longest_chars=80,
        mean_chars=20,
        first_empty_row=3 if empty else None,
    )


def reranker(**changes: Any) -> TrainReranker:
    return TrainReranker.model_validate({**LABELLED, **changes})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (RERANKER, "one of the two forms"),
        ({**RERANKER, "passage": "p"}, "belong together"),
        ({**LABELLED, "positive": "x"}, "one of the two forms"),
        ({**LABELLED, "negative": "x"}, "negative needs positive"),
        ({**LABELLED, "label": "p"}, "a column of its own"),
        ({**LABELLED, "score_range": [5, 0]}, "score_range goes from"),
        ({**LABELLED, "judge": {"label": "l", "score_range": [1, 1]}}, "score_range goes from"),
        ({**RERANKER, "positive": "p", "threshold": 3}, "are about labels"),
        ({**LABELLED, "loss": "hinge"}, "loss"),
        ({**SCORING, "pair": ["q", "q"]}, "two columns"),
        ({**SCORING, "score": "q"}, "choose another name"),
        ({**SCORING, "label": "score"}, "choose another name"),
        ({**SCORING, "question": {"prompt": "Is {query} good?"}}, "must hold"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(document: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_spec(document)


def test_the_models_of_a_job_are_named_by_role() -> None:
    assert reranker().model_references() == {"model": "m@1"}
    full = reranker(bi_encoder="b@1", hard_negatives={"model": "n@1"})
    assert full.model_references() == {"model": "m@1", "bi_encoder": "b@1", "negatives": "n@1"}
    scoring = ScorePairs.model_validate(SCORING)
    assert scoring.model_references() == {"teacher": "t@1"}
    assert (scoring.dataset_reference(), scoring.RESULT) == ("d@1", "dataset")


def test_negatives_are_mined_when_asked_to_or_when_there_are_none() -> None:
    assert not reranker().mines_negatives
    assert reranker(hard_negatives={}).mines_negatives
    positives = TrainReranker.model_validate({**RERANKER, "positive": "p"})
    assert positives.mines_negatives
    assert not TrainReranker.model_validate({**RERANKER, "positive": "p", "negative": "n"}).mines_negatives


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query": column(), "p": column()}, "no column 'l'"),
        ({"query": column(), "p": column(empty=2), "l": column("number")}, "empty in 2 rows, and this is the first"),
        ({"query": column(), "p": column(), "l": column()}, "does not hold numbers"),
        ({"query": column(), "p": column(), "l": column("number", {"1": 20})}, "one value only"),
        ({"query": column(), "p": column(), "l": column("number", {"0": 10, "4.5": 10})}, "4.5, which is not between"),
    ],
)
def test_data_that_can_not_train_a_reranker_are_refused(columns: dict[str, ColumnProfile], message: str) -> None:
    problems = reranker().problems_with(profile(**columns))
    assert len(problems) == 1 and message in str(problems[0])


def test_data_that_fit_are_accepted_and_the_range_may_be_another() -> None:
    fine = profile(query=column(), p=column(), l=column("number", {"0": 10, "4.5": 10}))
    assert reranker(score_range=[0, 5]).problems_with(fine) == []
    assert reranker(threshold=3).problems_with(fine) == []
    judged = reranker(threshold=3, judge={"label": "l"}).problems_with(fine)
    assert [problem.field for problem in judged] == ["judge"]
    truths = profile(query=column(), p=column(), l=column("boolean", {"true": 10, "False": 10}))
    assert reranker().problems_with(truths) == []


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"q": column()}, "no column 'p'"),
        ({"q": column(), "p": column(), "score": column("number")}, "already has a column 'score'"),
        ({"q": column(empty=1), "p": column()}, "this is the first of them"),
        ({"q": column(), "p": column(), "l": column()}, "does not hold numbers"),
    ],
)
def test_data_that_can_not_be_scored_are_refused(columns: dict[str, ColumnProfile], message: str) -> None:
    spec = ScorePairs.model_validate({**SCORING, "label": "l" if "l" in columns else None})
    problems = spec.problems_with(profile(**columns))
    assert len(problems) == 1 and message in str(problems[0])


def test_the_longest_pair_tells_the_tokens_of_a_batch() -> None:
    found = profile(query=column(), p=column(), l=column("number"), q=column())
    assert reranker().batch_shape(found) == (32, 82)
    assert reranker(training={"max_length": 64}).batch_shape(found) == (32, 64)
    assert ScorePairs.model_validate(SCORING).batch_shape(found) == (1, 82)


def test_truth_values_are_scores_of_an_embedder_too() -> None:
    document = {"kind": "train-embedder", "name": "a", "model": "m@1", "dataset": "d@1", "loss": "contrastive"}
    spec = parse_spec({**document, "sentence1": "q", "sentence2": "p", "score": "l"})
    table = profile(q=column(), p=column(), l=column("boolean", {"true": 12, "False": 8}))
    assert spec.problems_with(table) == []


def test_ranks_that_leave_no_candidate_are_refused() -> None:
    with pytest.raises(ValueError, match="range_min leaves out every candidate"):
        reranker(hard_negatives={"range_min": 50})
