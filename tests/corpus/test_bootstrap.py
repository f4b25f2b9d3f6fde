"""Intervals equal those of scipy, and the same rows are drawn for all systems."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from corpus.bootstrap import RESAMPLES, bootstrap, bootstrapped_means, interval
from workers.judging.llm_verdict import HeldOut, judge


def test_intervals_of_paired_figures_are_those_of_scipy_from_the_same_random_numbers() -> None:
    table = np.random.default_rng(1).exponential(size=(2, 300))
    ours = [interval(resampled) for resampled in bootstrapped_means(table)]
    theirs = scipy_bootstrap(
        tuple(table),
        lambda one, other: np.array([one.mean(), other.mean()]),
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=1,
        rng=20,
    ).confidence_interval
    np.testing.assert_allclose(ours, np.stack([theirs.low, theirs.high], axis=1), rtol=1e-12)


def test_all_figures_see_the_same_resamples_which_are_the_same_every_time() -> None:
    table = np.random.default_rng(1).normal(size=(2, 50))
    table[1] = 3 - 2 * table[0]
    once, again = bootstrapped_means(table), bootstrapped_means(table)
    assert once.shape == (2, RESAMPLES) and np.array_equal(once, again)
    assert once[1] == pytest.approx(3 - 2 * once[0])
    assert len(np.unique(once[0])) > RESAMPLES / 2


def test_between_two_resamples_it_may_be_stopped() -> None:
    calls: list[int] = []

    def stop_at_fifth() -> None:
        calls.append(1)
        if len(calls) == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        bootstrap(lambda drawn: [0.0], 3, stop_at_fifth)


def held_out(gain: float, rows: int = 40) -> HeldOut:
    generator = np.random.default_rng(5)
    tokens = generator.integers(3, 30, rows)
    before = -2.0 * tokens + generator.normal(size=rows)
    return HeldOut(before, before + tokens * (gain + 0.01 * generator.normal(size=rows)), tokens)


@pytest.mark.parametrize(
    ("gain", "rows", "helped"), [(0.5, 40, "yes"), (-0.5, 40, "no"), (0, 40, "unclear"), (0.5, 5, "unclear")]
)
def test_losses_are_per_token_and_their_paired_difference_decides(gain: float, rows: int, helped: str) -> None:
    given = held_out(gain, rows)
    verdict = judge(given)
    assert verdict.helped == helped and verdict.rows == rows
    assert verdict.before.value == pytest.approx(-given.before.sum() / given.tokens.sum())
    assert verdict.after.value == pytest.approx(verdict.before.value - gain, abs=0.01)
    assert verdict.difference.value == pytest.approx(verdict.after.value - verdict.before.value)
    for figure in (verdict.before, verdict.after, verdict.difference):
        assert figure.low <= figure.value <= figure.high
    assert verdict.difference.high - verdict.difference.low < (verdict.before.high - verdict.before.low) / 2


@pytest.mark.parametrize(("shift", "helped"), [(1.0, "yes"), (-1.0, "no"), (0.0, "unclear")])
def test_preferences_are_judged_by_their_rewards(shift: float, helped: str) -> None:
    rewards = np.append(np.random.default_rng(2).normal(size=60) + shift, 0.0)
    verdict = judge(held_out(0.5), rewards)
    assert verdict.helped == helped
    assert verdict.reward_margin is not None and verdict.reward_accuracy is not None
    assert verdict.reward_margin.value == pytest.approx(rewards.mean())
    assert verdict.reward_accuracy.value == pytest.approx((rewards > 0).mean())
    document = verdict.as_json()
    assert document["rewards"]["margin"]["value"] == verdict.reward_margin.value
    assert document["rewards"]["accuracy"]["value"] == verdict.reward_accuracy.value
    assert f"{(rewards > 0).mean():.0%} of held-out preferences" in document["sentence"]
    assert f"reward margin {rewards.mean():+.3f}" in document["sentence"]
    assert [system["system"] for system in document["systems"]] == ["fine-tuned", "base model"]
    assert document["systems"][1]["perplexity"] == pytest.approx(np.exp(verdict.before.value))


def test_rows_of_a_cluster_are_drawn_together_and_know_less_than_as_many_rows_alone() -> None:
    own, clusters = np.random.default_rng(3).normal(size=40), np.repeat(np.arange(40), 5)
    table = own[clusters][None]
    (low, high), (narrow_low, narrow_high) = (
        interval(bootstrapped_means(table, clusters=given)[0]) for given in (clusters, None)
    )
    # Five copies of a row say what the row says.
    assert (low, high) == pytest.approx(interval(bootstrapped_means(own[None])[0]))
    assert high - low > 1.8 * (narrow_high - narrow_low)
