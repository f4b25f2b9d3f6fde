"""Which rows are held out: sizes, sides and what is refused, for every way to split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.splits import SplitRows, connected_split, grouped_split, prompt_split, shares, stratified_split
from jobspecs.problems import InvalidInput

SEEDS = st.integers(0, 1000)
FRACTIONS = st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9])


def check_sides(split: SplitRows, rows: int) -> None:
    """Every row at most once, sorted, and something on both sides."""
    both = np.concatenate([split.train, split.validation])
    assert len(np.unique(both)) == len(both) and both.max() < rows
    assert len(split.train) and len(split.validation)
    for side in (split.train, split.validation):
        assert np.array_equal(side, np.sort(side))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, fraction=FRACTIONS, counts=st.lists(st.integers(2, 30), min_size=2, max_size=5))
def test_strata_have_their_share_on_both_sides(seed: int, fraction: float, counts: list[int]) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    names = [f"class {number}" for number in range(len(counts))]
    split = stratified_split(labels, names, rows=None, fraction=fraction, seed=seed)
    check_sides(split, len(labels))
    total = sum(counts)
    wanted = min(max(round(total * fraction), 1, len(counts)), total - len(counts))
    assert len(split.validation) == wanted and len(split.train) == total - wanted
    dealt = np.bincount(labels[split.validation], minlength=len(counts))
    assert dealt.tolist() == shares([count - 1 for count in counts], wanted, 1)
    assert (np.bincount(labels[split.train], minlength=len(counts)) >= 1).all()
    loose = stratified_split(labels, names, rows=None, fraction=fraction, seed=seed, stratify=False)
    check_sides(loose, total)
    assert len(loose.validation) == min(total - 1, max(1, round(total * fraction)))


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS, fraction=FRACTIONS, texts=st.lists(st.integers(0, 12), min_size=12, max_size=60), stratify=st.booleans()
)
def test_rows_with_one_text_are_on_one_side_and_every_class_trains(
    seed: int, fraction: float, texts: list[int], stratify: bool
) -> None:
    numbers = np.array([*texts, 100, 101, 102, 103, 100, 101])
    labels = (numbers % 2).astype(np.int64)
    labels[0] = 1 - labels[0]
    split = stratified_split(
        labels, "ab", rows=None, fraction=fraction, seed=seed, stratify=stratify, texts=numbers * 7
    )
    check_sides(split, len(numbers))
    assert not set(numbers[split.train]) & set(numbers[split.validation])
    wanted = min(max(round(len(numbers) * fraction), 2), len(numbers) - 2)
    assert len(split.validation) <= wanted + 4
    if stratify:
        assert set(labels[split.train]) == {0, 1}
        assert set(labels[split.validation]) == {0, 1}


def test_texts_that_all_differ_change_nothing_and_equal_ones_leave_none_to_judge_by() -> None:
    labels = np.random.default_rng(1).integers(0, 3, 200)
    plain = stratified_split(labels, "abc", rows=150, fraction=0.3, seed=4)
    distinct = stratified_split(labels, "abc", rows=150, fraction=0.3, seed=4, texts=np.arange(200)[::-1] * 3)
    assert np.array_equal(plain.validation, distinct.validation) and np.array_equal(plain.train, distinct.train)
    for stratify in (True, False):
        with pytest.raises(InvalidInput, match="too few texts differ"):
            stratified_split(
                labels, "abc", rows=None, fraction=0.3, seed=4, stratify=stratify, texts=np.zeros(200, np.int64)
            )


def test_a_class_whose_only_text_stands_with_another_class_still_trains() -> None:
    texts, labels = np.array([0, 0, 0, 0, 1, 2, 3, 4]), np.array([0, 1, 1, 0, 0, 0, 0, 0])
    for seed in range(20):
        split = stratified_split(labels, "ab", rows=None, fraction=0.5, seed=seed, texts=texts)
        assert set(labels[split.train]) == {0, 1} and len(split.validation)


def test_a_sample_keeps_its_strata_and_says_when_it_can_not() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    split = stratified_split(labels, "abc", rows=20, fraction=0.5, seed=1)
    chosen = np.bincount(labels[np.concatenate([split.train, split.validation])])
    assert chosen.tolist() == [12, 6, 2]
    assert len(stratified_split(labels, "abc", rows=100, fraction=0.5, seed=1).train) == 50
    assert len(stratified_split(labels, "abc", rows=6, fraction=0.5, seed=1).train) == 3
    with pytest.raises(InvalidInput, match="5 rows can't hold 2 of each of 3 classes") as refused:
        stratified_split(labels, "abc", rows=5, fraction=0.5, seed=1)
    assert refused.value.problems[0].field == "rows" and "Raise rows" in str(refused.value.problems[0])
    with pytest.raises(InvalidInput, match="class 'c' has 1 row; it needs 2") as refused:
        stratified_split(np.array([0, 0, 1, 1, 2]), "abc", rows=None, fraction=0.5, seed=1)
    assert refused.value.problems[0].field == "label"


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, fraction=FRACTIONS, sizes=st.lists(st.integers(1, 9), min_size=2, max_size=12))
def test_groups_stay_whole(seed: int, fraction: float, sizes: list[int]) -> None:
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    split = grouped_split(groups, rows=None, fraction=fraction, seed=seed)
    check_sides(split, len(groups))
    assert len(split.train) + len(split.validation) == len(groups)
    held_out, trained = set(groups[split.validation]), set(groups[split.train])
    assert not held_out & trained
    assert len(held_out) == min(len(sizes) - 1, max(1, round(len(sizes) * fraction)))
    few = grouped_split(groups, rows=max(sizes), fraction=fraction, seed=seed)
    kept = np.concatenate([few.train, few.validation])
    assert len(kept) <= max(sizes) or len(set(groups[kept])) == 2


def test_fewer_than_two_groups_leave_none_to_judge_by() -> None:
    for groups in (np.zeros(0, dtype=np.int64), np.zeros(5, dtype=np.int64)):
        with pytest.raises(InvalidInput, match="the same query") as refused:
            grouped_split(groups, rows=None, fraction=0.2, seed=1)
        assert refused.value.problems[0].field == "query"


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, fraction=st.sampled_from([0.2, 0.5]), rows=st.integers(30, 90))
def test_rows_that_share_a_text_through_others_are_on_one_side(seed: int, fraction: float, rows: int) -> None:
    numbers = np.arange(rows)
    # Chains of three: rows 0 and 1 share their second text, rows 1 and 2 their first.
    texts = np.stack([1000 + (numbers + 1) // 3 * 3 + (numbers % 3 == 0), 2000 + numbers - (numbers % 3 == 1)], axis=1)
    split = connected_split(texts, rows=None, fraction=fraction, seed=seed)
    check_sides(split, rows)
    for column in (0, 1):
        assert not set(texts[split.train, column]) & set(texts[split.validation, column])
    assert max(1, round(rows * fraction)) - 2 <= len(split.validation) <= max(1, round(rows * fraction))
    sample = connected_split(texts, rows=20, fraction=fraction, seed=seed)
    assert len(sample.train) + len(sample.validation) == 20


def test_where_one_text_ties_all_rows_only_first_texts_stay_together() -> None:
    texts = np.array([(row // 2, 500) for row in range(40)])
    split = connected_split(texts, rows=None, fraction=0.25, seed=1)
    assert len(split.validation) == 10
    assert not set(texts[split.train, 0]) & set(texts[split.validation, 0])
    with pytest.raises(InvalidInput, match="all rows share their first text") as refused:
        connected_split(np.array([[1, row] for row in range(9)]), rows=None, fraction=0.2, seed=1)
    problem = refused.value.problems[0]
    assert (problem.field, problem.remedy) == ("dataset", "Push more rows.")


@pytest.mark.parametrize("split", [connected_split, prompt_split])
def test_two_rows_are_enough_and_one_is_not(split: Callable[..., SplitRows]) -> None:
    for fraction in (0.01, 0.99):
        two = split(np.array([[1, 2], [3, 4]]), rows=None, fraction=fraction, seed=1)
        assert len(two.train) == len(two.validation) == 1
    with pytest.raises(InvalidInput, match="1 row can be used; two are needed"):
        split(np.array([[1, 2]]), rows=None, fraction=0.5, seed=1)
    with pytest.raises(InvalidInput, match="1 row can be used"):
        split(np.array([[1, 2], [3, 4]]), rows=1, fraction=0.5, seed=1)


@pytest.mark.parametrize("split", [connected_split, prompt_split])
def test_the_seed_decides_and_nothing_else(split: Callable[..., SplitRows]) -> None:
    tied = np.stack([np.arange(60), 100 + np.arange(60)], axis=1)
    once, again, other = (split(tied, rows=40, fraction=0.2, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(once.validation, again.validation) and len(once.validation) == 8
    assert not np.array_equal(once.validation, other.validation)
    assert len(split(tied, rows=20, fraction=0.01, seed=1).validation) == 1


@pytest.mark.parametrize(
    ("counts", "total", "least", "expected"),
    [
        ([75, 25], 20, 1, [15, 5]),
        ([98, 1, 1], 10, 1, [8, 1, 1]),
        ([3, 3, 3], 4, 1, [2, 1, 1]),
        ([2, 100], 50, 2, [2, 48]),
        ([10, 17, 13], 10, 1, [3, 4, 3]),  # 2.5, 4.25 and 3.25: the largest remainder gets the place that is left
        ([17, 13, 10], 10, 1, [4, 3, 3]),
        ([1, 1, 8], 10, 0, [1, 1, 8]),
        ([5, 5], 1, 1, [1, 1]),
    ],
)
def test_places_are_dealt_by_largest_remainder(counts: list[int], total: int, least: int, expected: list[int]) -> None:
    assert shares(counts, total, least) == expected
