from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest


@pytest.fixture
def in_parallel() -> Callable[..., list[object]]:
    """Calls a function with 0 … n-1 in n threads at once and gives the results in that order."""

    def call(function: Callable[[int], object], count: int) -> list[object]:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(function, range(count)))

    return call
