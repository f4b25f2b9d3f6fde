"""Which conversations are held out."""

from __future__ import annotations

import numpy as np
import pytest

from corpus.splits import prompt_split
from jobspecs.problems import InvalidInput


def test_rows_with_the_same_prompt_are_on_one_side() -> None:
    tied = np.array([(1000 + row, row // 3) for row in range(90)])
    split = prompt_split(tied, rows=None, fraction=0.2, seed=1)
    assert not set(tied[split.train, 1]) & set(tied[split.validation, 1])
    assert len(split.validation) == 18 and len(split.train) == 72


def test_one_prompt_for_all_leaves_only_equal_rows_together() -> None:
    tied = np.array([(1000 + row // 2, 0) for row in range(60)])
    split = prompt_split(tied, rows=40, fraction=0.2, seed=1, validation_max=6)
    assert not set(tied[split.train, 0]) & set(tied[split.validation, 0])
    assert 5 <= len(split.validation) <= 6 and len(split.train) + len(split.validation) == 40


def test_rows_that_are_all_equal_leave_none_to_judge_by() -> None:
    with pytest.raises(InvalidInput, match="all rows are equal"):
        prompt_split(np.array([[1, 0]] * 9), rows=None, fraction=0.2, seed=1)
