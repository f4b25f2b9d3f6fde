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
        (["deploy", "q", "--external", "http://127.0.0.1:1", "--model", "m@1"], "--model: somebody else runs that"),
        (["deploy", "q@2", "--external", "http://127.0.0.1:1"], "--model: somebody else runs that engine"),
        (["deploy", "q", "--external", "http://127.0.0.1:1", "--idle", "30m"], "--idle: somebody else runs that"),
        (["deploy", "q", "--health-path", "/well"], "--health-path: it is for --external only."),
    ],
)
def test_flags_that_cannot_be_meant_together_are_refused(
    arguments: list[str], message: str, run: Callable[..., Outcome]
) -> None:
    outcome = run(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
