"""The measures equal those of other libraries, and the verdict says what the intervals allow."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, ndcg_score

from corpus.rankings import metric_of
from workers.judging.ranking_verdict import (
    RankingVerdict,
    judge_rankings,
    pearson,
    ranking_measures,
    spearman,
)


def some_pairs(queries: int, passages: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and numbers of queries, whose first passage is the relevant one."""
    labels = np.tile(np.eye(1, passages, dtype=np.float32)[0], queries)
    return labels, np.repeat(np.arange(queries), passages)


def judged(labels: np.ndarray, groups: np.ndarray, scores: dict[str, np.ndarray]) -> RankingVerdict:
    """Every pair has a passage of its own."""
    return judge_rankings(labels, groups, np.arange(len(labels)), scores, metric_of(labels, groups))


@pytest.mark.parametrize("seed", range(5))
def test_the_measures_of_a_query_are_those_of_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels, scores = np.append(generator.choice([0.0, 0.5, 0.8, 1.0], 29), 1.0), generator.normal(size=30)
    ndcg, reciprocal, precision = ranking_measures(labels, scores)
    relevant = labels >= 0.5
    assert ndcg == pytest.approx(ndcg_score(labels[None], scores[None], k=10))
    assert precision == pytest.approx(average_precision_score(relevant, scores))
    assert reciprocal == pytest.approx(1 / (1 + np.flatnonzero(relevant[np.argsort(-scores)])[0]))


def test_equal_scores_are_not_ordered_by_their_labels() -> None:
    first = np.mean([ranking_measures(np.roll(np.eye(1, 20)[0], place), np.zeros(20))[1] for place in range(20)])
    assert first == pytest.approx(np.mean(1 / np.arange(1, 21)))


def test_correlations_are_those_of_scipy_and_0_where_nothing_varies() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(6, size=200) / 5
    scores = labels + generator.normal(size=200)
    assert spearman(labels, scores) == pytest.approx(spearmanr(labels, scores).statistic)
    assert pearson(labels, scores) == pytest.approx(np.corrcoef(labels, scores)[0, 1])
    assert spearman(labels, np.ones(200)) == 0


def test_a_clear_difference_is_called_one_and_a_small_one_is_not() -> None:
    labels, groups = some_pairs(60, 8)
    noise = np.random.default_rng(2).normal(size=len(labels))
    good, bad = labels * 4 + noise, noise
    helped = judged(labels, groups, {"fine-tuned": good, "BM25": bad})
    harmed = judged(labels, groups, {"fine-tuned": bad, "BM25": good})
    unclear = judged(labels, groups, {"fine-tuned": good, "BM25": good + 0.05 * noise[::-1]})
    assert (helped.helped, harmed.helped, unclear.helped) == ("yes", "no", "unclear")
    assert helped.difference[1] > 0 > harmed.difference[2]
    assert helped.metric == "ndcg_at_10" and helped.judged == 60
    assert "BM25" in harmed.sentence and "did not help" in harmed.sentence


def test_a_handful_of_queries_proves_nothing_however_far_apart_the_systems_are() -> None:
    for queries, expected in ((1, "unclear"), (5, "unclear"), (6, "yes")):
        labels, groups = some_pairs(queries, 8)
        verdict = judged(labels, groups, {"fine-tuned": labels, "BM25": -labels})
        assert verdict.helped == expected and verdict.judged == queries
        few = "So few independent held-out queries prove nothing: at least 6 are needed."
        assert (few in verdict.sentence) == (expected == "unclear")


def test_what_can_not_be_told_is_said_with_its_reason() -> None:
    labels, groups = some_pairs(60, 8)
    noise = np.random.default_rng(2).normal(size=len(labels))
    same = judged(labels, groups, {"fine-tuned": labels, "BM25": labels})
    assert "The two are equally good on these held-out queries." in same.sentence
    near = judged(labels, groups, {"fine-tuned": labels + noise, "BM25": labels + noise[::-1]})
    assert near.helped == "unclear" and "held-out queries." in near.sentence and "may be chance" in near.sentence
    flat = judged(np.arange(40.0), np.arange(40), {"fine-tuned": np.full(40, 0.3), "BM25": np.arange(40.0)})
    assert flat.helped == "no" and flat.sentence.endswith("It gives every pair the same score.")


def test_the_best_of_the_others_is_what_must_be_beaten() -> None:
    labels, groups = some_pairs(60, 8)
    noise = np.random.default_rng(2).normal(size=len(labels))
    middling, best = labels + noise, labels * 4 + noise
    verdict = judged(labels, groups, {"fine-tuned": middling, "BM25": noise, "bi-encoder": best})
    assert verdict.helped == "no" and "bi-encoder" in verdict.sentence


def test_an_interval_covers_its_value_and_the_json_is_plain() -> None:
    labels, groups = some_pairs(40, 5)
    noise = np.random.default_rng(4).normal(size=len(labels))
    verdict = judged(labels, groups, {"fine-tuned": labels + noise, "BM25": noise}).as_json()
    for system in verdict["systems"]:
        assert system["low"] <= system["value"] <= system["high"]
        assert system["value"] == system["ndcg_at_10"]
    assert verdict["systems"][0].keys() == {"system", "value", "low", "high", "ndcg_at_10", "mrr", "average_precision"}


def test_queries_without_an_answer_are_not_judged_by_order() -> None:
    labels, groups = some_pairs(30, 4)
    labels[:4] = 0
    noise = np.random.default_rng(4).normal(size=len(labels))
    assert judged(labels, groups, {"fine-tuned": labels + noise, "BM25": noise}).judged == 29


def test_rankings_are_told_from_pairs_with_a_score() -> None:
    assert metric_of(*some_pairs(9, 4)) == "ndcg_at_10"
    assert metric_of(np.arange(9) % 2, np.arange(9)) == "spearman"
    half_alone = np.array([1, 0, 0.5, 0.5]), np.array([0, 0, 1, 2])
    assert metric_of(*half_alone) == "spearman"


def test_scores_without_rankings_are_judged_by_their_correlation() -> None:
    generator = np.random.default_rng(3)
    labels = generator.random(40)
    good, bad = labels + 0.1 * generator.normal(size=40), generator.normal(size=40)
    alone = judged(labels, np.arange(40), {"fine-tuned": good, "BM25": bad})
    assert (alone.metric, alone.judged, alone.helped) == ("spearman", 40, "yes")
    assert alone.systems[0].value == pytest.approx(spearmanr(labels, good).statistic)
    # Unlike labels within the queries, none of which counts as relevant.
    weak = judged(labels * 0.4, np.arange(40) // 4, {"fine-tuned": good, "BM25": bad})
    assert weak.metric == "spearman" and "40 held-out pairs with 10 different first texts" in weak.sentence
    assert [own.value for own in weak.systems] == pytest.approx([own.value for own in alone.systems])


def test_queries_that_share_an_answer_and_pairs_that_share_a_query_are_drawn_together() -> None:
    labels, groups = some_pairs(60, 8)
    noise = np.random.default_rng(2).normal(size=len(labels))
    scores = {"fine-tuned": labels + noise, "BM25": noise}
    own_passages = np.arange(len(labels))
    shared = np.where(labels == 1, groups // 12, own_passages + 100)
    alone, together = (judge_rankings(labels, groups, given, scores, "ndcg_at_10") for given in (own_passages, shared))
    assert alone.systems[0].value == together.systems[0].value
    assert (alone.helped, together.helped) == ("yes", "unclear")
    assert "60 held-out queries with 5 different answers" in together.sentence
    assert "So few independent held-out answers prove nothing: at least 6 are needed." in together.sentence
    # Ten copies of a pair say what the pair says.
    truth, found = np.arange(30.0), np.arange(30.0) + 9 * np.random.default_rng(5).normal(size=30)
    one, copies = (
        judge_rankings(
            truth.repeat(n),
            np.arange(30).repeat(n),
            np.arange(30 * n),
            {"a": found.repeat(n), "b": -found.repeat(n)},
            "spearman",
        )
        for n in (1, 10)
    )
    assert copies.systems[0].low == pytest.approx(one.systems[0].low)
    assert copies.judged == 300


def test_a_label_of_one_half_is_relevant_and_equal_labels_are_no_order() -> None:
    labels = np.array([0.5, 0, 0, 1, 1, 1, 0.4, 0, 0.0])
    verdict = judged(labels, np.arange(9) // 3, {"fine-tuned": labels, "BM25": -labels})
    assert verdict.judged == 1 and verdict.systems[0].value == 1


def test_the_json_tells_the_difference_to_the_best_other_system() -> None:
    labels, groups = some_pairs(40, 5)
    noise = np.random.default_rng(4).normal(size=len(labels))
    verdict = judged(labels, groups, {"fine-tuned": 4 * labels + noise, "BM25": noise, "bi": -labels})
    document = verdict.as_json()
    own, best = document["systems"][0], max(document["systems"][1:], key=lambda system: system["value"])
    assert document["difference"]["value"] == pytest.approx(own["value"] - best["value"])
    assert document["difference"]["low"] < document["difference"]["value"] < document["difference"]["high"]
    assert document.keys() == {"sentence", "helped", "metric", "judged", "difference", "systems"}
    assert (document["helped"], document["metric"], document["judged"]) == ("yes", "ndcg_at_10", 40)
    assert document["sentence"] == (
        f"Training helped: nDCG@10 {own['value']:.3f} on 40 held-out queries, BM25 {best['value']:.3f}."
    )
    assert pearson(np.array([0.0, 1e-3]), np.array([0.0, 1e-3])) == pytest.approx(1)


def test_how_many_would_tell_is_said_of_what_is_independent() -> None:
    generator = np.random.default_rng(0)
    firsts = np.arange(1000) // 50
    labels = generator.random(1000)
    ours, other = labels + generator.normal(size=1000), labels + generator.normal(size=1000)
    verdict = judge_rankings(labels, firsts, np.arange(1000), {"fine-tuned": ours, "BM25": other}, "spearman")
    assert verdict.helped == "unclear" and "1000 held-out pairs with 20 different first texts" in verdict.sentence
    assert re.search(r"takes about [\d,]+ held-out first texts\.|100 times as many held-out first", verdict.sentence)
    queries, groups = some_pairs(60, 8)
    noise = generator.normal(size=(2, len(queries)))
    shared = np.where(queries == 1, groups // 5, 100 + np.arange(len(queries)))
    scores = {"fine-tuned": queries + noise[0], "BM25": queries + noise[1]}
    ordered = judge_rankings(queries, groups, shared, scores, "ndcg_at_10")
    assert ordered.helped == "unclear" and "60 held-out queries with 12 different answers" in ordered.sentence
    assert "held-out queries." not in ordered.sentence and "held-out answers" in ordered.sentence
