"""Flags that contradict each other, or would do nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.client.conftest import Outcome


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jobs", "--all", "--user", "kim"], "--user: everybody's jobs or one user's, not both."),
        (["users", "delete", "alex", "--cancel-jobs", "--yes"], "--cancel-jobs: it is for --give-to only;"),
        (
            ["users", "delete", "alex", "--give-to", "kim", "--delete-things", "--yes"],
            "--delete-things: things pass to somebody or are deleted, not both.",
        ),
    ],
)
def test_flags_that_cannot_be_meant_together_are_refused(
    arguments: list[str], message: str, run: Callable[..., Outcome]
) -> None:
    outcome = run(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
