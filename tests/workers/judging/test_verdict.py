from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from workers.judging.verdict import judge, mcnemar_p, score, wilson_interval


@pytest.mark.parametrize(
    ("correct", "rows", "low", "high"),
    [
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (8, 10, 0.490162, 0.943318),  # R: binom::binom.wilson(8, 10)
        (50, 100, 0.403832, 0.596168),
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_wilson_interval_equals_published_values(correct: int, rows: int, low: float, high: float) -> None:
    assert wilson_interval(correct, rows) == pytest.approx((low, high), abs=2e-6)


def test_scores_equal_those_computed_by_hand() -> None:
    #              a a a a b b c      two of four a, one of two b, none of c
    truth = np.array([0, 0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 2, 1, 0, 0])
    result = score("it", truth, predicted, ("a", "b", "c"))
    assert (result.correct, result.rows) == (3, 7)
    a, b, c = (result.per_class[name] for name in "abc")
    assert (a.precision, a.recall, a.f1, a.rows) == (2 / 4, 2 / 4, 0.5, 4)
    assert (b.precision, b.recall, b.f1, b.rows) == (1 / 2, 1 / 2, 0.5, 2)
    assert (c.precision, c.recall, c.f1, c.rows) == (0, 0, 0, 1)
    assert result.macro_f1 == pytest.approx(1 / 3)
    assert result.accuracy_low < 3 / 7 < result.accuracy_high


def test_mcnemar_equals_the_binomial_by_hand_and_meets_its_approximation() -> None:
    assert mcnemar_p(0, 0) == 1.0
    assert mcnemar_p(1, 5) == pytest.approx(2 * (1 + 6) / 64)
    assert mcnemar_p(5, 1) == mcnemar_p(1, 5)
    assert mcnemar_p(3, 3) == 1.0


@pytest.mark.parametrize(("only_first", "only_second"), [(540, 461), (461, 540), (501, 500), (560, 445), (600, 500)])
def test_beyond_1000_rows_mcnemar_is_the_binomial_to_within_the_error_of_its_correction(
    only_first: int, only_second: int
) -> None:
    """With the correction for continuity they are at most 1.4 % off, without it 2.5 to 10 %."""
    exact = binomtest(only_first, only_first + only_second).pvalue
    assert mcnemar_p(only_first, only_second) == pytest.approx(exact, rel=0.02)


def test_1000_rows_are_still_judged_exactly() -> None:
    assert mcnemar_p(530, 470) == pytest.approx(binomtest(530, 1000).pvalue, rel=1e-12)


@pytest.mark.parametrize(
    ("ours", "svm", "helped", "words"),
    [
        (90, 60, "yes", "Fine-tuning helped: 90.0% of 100"),
        (60, 90, "no", "did not help"),
        (81, 80, "unclear", "may be chance"),
    ],
)
def test_the_verdict_says_whether_it_helped(ours: int, svm: int, helped: str, words: str) -> None:
    truth = np.ones(100, dtype=np.int64)

    def right(count: int) -> np.ndarray:
        return (np.arange(100) < count).astype(np.int64)

    verdict = judge(truth, ("a", "b"), right(ours), {"svm": right(svm), "majority": right(55)})
    assert verdict.helped == helped
    assert words in verdict.sentence and "svm" in verdict.sentence
    assert verdict.as_json()["baselines"][0]["accuracy"] == svm / 100


def test_the_verdict_holds_what_its_sentence_says() -> None:
    truth = np.array([0, 1] * 20)
    verdict = judge(truth, ("a", "b"), truth, {"svm": 1 - truth, "majority": truth * 0})
    assert verdict.model.system == "fine-tuned" and verdict.model.accuracy == 1
    assert [score.system for score in verdict.baselines] == ["svm", "majority"]
    assert verdict.p_value == mcnemar_p(20, 0) and verdict.helped == "yes"


def test_a_class_that_is_neither_there_nor_claimed_scores_0() -> None:
    truth = np.array([0, 0, 1])
    unused = score("it", truth, truth, ("a", "b", "c")).per_class["c"]
    assert (unused.precision, unused.recall, unused.f1, unused.rows) == (0, 0, 0, 0)
    assert mcnemar_p(1, 0) == mcnemar_p(0, 1) == 1.0
