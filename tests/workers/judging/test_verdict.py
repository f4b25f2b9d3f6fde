from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, recall_score, roc_auc_score

from workers.judging.baselines import MAJORITY, SVM
from workers.judging.class_metrics import Predictions, figure, predictions_of
from workers.judging.errors_shown import MISTAKES_MAX, Errors
from workers.judging.verdict import LINEAR, judge, mcnemar_p, remarks, score, wilson_interval


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
    predicted = Predictions(np.array([0, 0, 1, 2, 1, 0, 0]))
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
    truth = np.arange(100) % 2

    def right(count: int) -> Predictions:
        return Predictions(np.where(np.arange(100) < count, truth, 1 - truth))

    verdict = judge(truth, ("a", "b"), right(ours), {"svm": right(svm), "majority": right(55)})
    assert verdict.helped == helped
    assert words in verdict.sentence and "svm" in verdict.sentence
    assert verdict.as_json()["baselines"][0]["accuracy"] == svm / 100


def test_a_linear_model_that_is_as_good_is_offered_for_training_and_never_to_itself() -> None:
    truth = np.arange(100) % 2
    right = Predictions(truth)
    wrong = Predictions(np.where(np.arange(100) < 60, truth, 1 - truth))
    baselines = {SVM: right, MAJORITY: Predictions(truth * 0)}
    offer = "model: builtin:tfidf-svm"
    assert offer in judge(truth, ("a", "b"), wrong, baselines).sentence
    assert offer in judge(truth, ("a", "b"), right, baselines).sentence
    assert offer not in judge(truth, ("a", "b"), right, {SVM: wrong}).sentence
    itself = judge(truth, ("a", "b"), wrong, baselines, system=LINEAR).sentence
    assert offer not in itself and itself.startswith("Training did not help")


def test_the_verdict_holds_what_its_sentence_says() -> None:
    truth = np.array([0, 1] * 20)
    verdict = judge(
        truth, ("a", "b"), Predictions(truth), {"svm": Predictions(1 - truth), "majority": Predictions(truth * 0)}
    )
    assert verdict.model.system == "fine-tuned" and verdict.model.accuracy == 1
    assert [score.system for score in verdict.baselines] == ["svm", "majority"]
    assert verdict.p_value == mcnemar_p(20, 0) and verdict.helped == "yes"


def test_a_class_that_is_neither_there_nor_claimed_scores_0() -> None:
    truth = np.array([0, 0, 1])
    unused = score("it", truth, Predictions(truth), ("a", "b", "c")).per_class["c"]
    assert (unused.precision, unused.recall, unused.f1, unused.rows) == (0, 0, 0, 0)
    assert mcnemar_p(1, 0) == mcnemar_p(0, 1) == 1.0


def predicted(truth: np.ndarray, seed: int, wrong: float, classes: int) -> Predictions:
    generator = np.random.default_rng(seed)
    return Predictions(
        np.where(generator.random(len(truth)) < wrong, generator.integers(0, classes, len(truth)), truth)
    )


def test_on_uneven_classes_macro_f1_decides_against_a_model_that_predicts_one_class() -> None:
    truth = np.repeat([0, 1, 2, 3], [664, 150, 100, 86])
    model = Predictions(np.zeros(1000, dtype=np.int64))
    svm = Predictions(np.where(np.random.default_rng(3).random(1000) < 0.3, truth, 0))
    names = ("a", "b", "c", "d")
    verdict = judge(truth, names, model, {"svm": svm, "majority": model}, "macro_f1", largest=0)
    assert (verdict.metric, verdict.helped) == ("macro_f1", "no")
    assert verdict.model.value == pytest.approx(0.2, abs=0.002) == verdict.model.macro_f1
    assert verdict.model.low < verdict.model.value < verdict.model.high
    assert verdict.difference.low < verdict.difference.value < verdict.difference.high < 0
    assert "macro F1 0.200 on 1000 held-out rows, svm" in verdict.sentence and "66.4% right against" in verdict.sentence
    assert verdict.sentence.endswith("It predicts 'a' for every row: it has learnt nothing beyond the majority.")
    assert verdict.as_json()["difference"]["high"] == verdict.difference.high
    alone = judge(truth, names, model, {"svm": model, "majority": model}, "macro_f1", largest=0)
    assert alone.helped == "no" and "The simpler system is as good on these data." in alone.sentence


def test_a_model_that_never_predicts_some_classes_is_told() -> None:
    truth = np.repeat(np.arange(8), 10)
    found = Predictions(np.where(truth < 2, truth, 0))
    told = remarks(truth, found, "abcdefgh", 0)
    assert told == [
        "It never predicts (held-out rows in brackets) 'c' (10), 'd' (10), 'e' (10), 'f' (10), 'g' (10) and 1 more."
    ]
    assert remarks(truth, Predictions(truth * 0 + 3), "abcdefgh", 0) == ["It predicts 'd' for every row."]
    assert remarks(truth, Predictions(truth), "abcdefgh", 0) == []


def test_unclear_for_want_of_rows_says_how_many_would_tell() -> None:
    truth = np.arange(60) % 2
    ours, svm = predicted(truth, 1, 0.2, 2), predicted(truth, 2, 0.4, 2)
    verdict = judge(truth, ("a", "b"), ours, {"svm": svm}, "macro_f1")
    assert verdict.helped == "unclear"
    needed = re.search(r"to tell one of this size takes about (\d+) held-out rows", verdict.sentence)
    assert needed is not None and 60 < int(needed[1]) < 6000
    few = judge(truth[:5], ("a", "b"), Predictions(truth[:5]), {"svm": Predictions(1 - truth[:5])}, "macro_f1")
    assert few.helped == "unclear" and "at least 6 are needed" in few.sentence
    same = judge(truth, ("a", "b"), svm, {"svm": svm}, "mcc")
    assert same.helped == "unclear" and "equally good on these held-out rows" in same.sentence
    rows, truth = np.arange(600), np.arange(600) % 2
    ours, svm = (Predictions(np.where(right, truth, 1 - truth)) for right in (rows >= 60, rows < 541))
    assert (
        "100 times as many held-out rows would not tell one so small"
        in judge(truth, ("a", "b"), ours, {"svm": svm}).sentence
    )


@pytest.mark.parametrize("classes", [2, 5])
def test_figures_equal_scikit_learns(classes: int) -> None:
    generator = np.random.default_rng(classes)
    for seed in range(20):
        truth = generator.choice(classes, 60, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
        found = predicted(truth, seed, 0.5, classes)
        present = np.unique(truth)
        expected = {
            "accuracy": accuracy_score(truth, found.labels),
            "macro_f1": f1_score(truth, found.labels, labels=present, average="macro", zero_division=0),
            "mcc": matthews_corrcoef(truth, found.labels),
            "balanced_accuracy": recall_score(truth, found.labels, labels=present, average="macro", zero_division=0),
        }
        for metric, value in expected.items():
            assert figure(metric, truth, found, classes) == pytest.approx(value)  # type: ignore[arg-type]
    scored = predictions_of(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]], dtype=np.float32))
    assert scored.labels.tolist() == [0, 1, 1, 0]
    assert figure("roc_auc", np.array([0, 1, 0, 1]), scored, 2) == 0.5
    assert figure("roc_auc", np.array([0, 1, 1, 0]), scored, 2) == 1
    assert figure("roc_auc", np.array([0, 0, 0, 0]), scored, 2) == 0.5
    assert figure("mcc", np.array([0, 1]), Predictions(np.array([0, 0])), 2) == 0


def test_the_surest_mistakes_come_first_and_the_confusion_is_bounded() -> None:
    truth = np.arange(40) % 2
    scores = np.full((40, 2), 0.5, dtype=np.float32)
    scores[np.arange(40), 1 - truth] += np.linspace(0, 0.4, 40, dtype=np.float32)
    errors = Errors.of(["x" * 500] * 40, truth, scores, ("a", "b"))
    assert len(errors.mistakes) == MISTAKES_MAX
    assert errors.mistakes[0] == {"text": "x" * 199 + "…", "true": "b", "predicted": "a", "probability": 0.9}
    assert errors.confusion == {"classes": ["a", "b"], "rows": [[1, 19], [20, 0]]}
    wide = Errors.of(["x"], np.array([3]), np.eye(21, dtype=np.float32)[3:4], [str(n) for n in range(21)])
    assert wide.confusion is None and wide.mistakes == []


def test_roc_auc_is_no_matter_of_the_likeliest_class() -> None:
    generator = np.random.default_rng(0)
    truth = (np.arange(200) % 20 == 0).astype(np.int64)
    ours, svm = truth * 0.2 + generator.random(200) * 0.2, generator.random(200) * 0.5
    found, other = (predictions_of(np.stack([1 - p, p], axis=1).astype(np.float32)) for p in (ours, svm))
    assert not found.labels.any()
    verdict = judge(truth, ("no", "yes"), found, {"svm": other}, "roc_auc", largest=0)
    assert verdict.helped == "yes" and verdict.model.value > 0.9
    assert verdict.model.value == pytest.approx(roc_auc_score(truth, found.scores))
    assert verdict.sentence.endswith("It predicts 'no' for every row.")


def test_of_one_class_no_number_of_rows_is_said_to_tell() -> None:
    truth = np.zeros(50, dtype=np.int64)
    for wrong in (25, 0):
        svm = Predictions((np.arange(50) < wrong).astype(np.int64))
        verdict = judge(truth, ("a", "b"), Predictions(truth), {"svm": svm}, "macro_f1")
        assert verdict.helped == "unclear"
        assert "chance" not in verdict.sentence and "equally good" not in verdict.sentence
        assert re.search(r"against [\d.]+%\. All held-out rows are 'a'", verdict.sentence)
