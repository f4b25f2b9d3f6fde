"""`rm`: what is told and asked before anything is deleted."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from tests.client.documents import JOB_ID, pipeline
from tests.client.stub import StubPlatform
from tests.client.test_cli import Run, full_platform

__all__ = ["full_platform"]


@pytest.mark.parametrize("what", ["datasets", "models"])
def test_jobs_that_can_not_be_retried_then_are_named_before_it_is_asked(
    full_platform: StubPlatform, run: Run, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    name, path = {
        "datasets": ("headlines@2", "DELETE /v1/datasets/headlines/versions/2"),
        "models": ("newsticker-quality", "DELETE /v1/registry/models/admin/newsticker-quality"),
    }[what]
    lost = [{"id": JOB_ID, "name": f"news-{number}"} for number in range(12)]
    full_platform.answers[path] = (200, {"deleted": ["it"], "bytes": 1, "retries_lost": lost})
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    asked: list[str] = []

    def refuse(question: str, **_: Any) -> None:
        asked.append(question)
        raise typer.Abort

    monkeypatch.setattr(typer, "confirm", refuse)
    outcome = run(what, "rm", name)
    assert asked
    assert (outcome.code, outcome.out) == (130, "")
    assert f"news-0 ({JOB_ID[:8]}), which has checkpoints, can't be retried then\n" in outcome.err
    assert "news-10" not in outcome.err and "and 2 more can't be retried then" in outcome.err
    assert full_platform.requests[-1].query == "dry_run=true"
    assert "can't be retried any more" in run(what, "rm", name, "--yes").err


def test_nothing_is_deleted_without_a_yes(full_platform: StubPlatform, run: Run) -> None:
    """Under pytest nobody sits at the terminal."""
    outcome = run("models", "rm", "newsticker-quality")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        "error: Invalid value for --yes: nobody is there to confirm that the model newsticker-quality with all its "
        "versions is to be deleted for good; say so. See: eigenwerk models rm --help\n"
    )
    assert run("models", "rm", "newsticker-quality@latest", "--yes").code == 1, "an alias moves"
    outcome = run("datasets", "rm", "headlines@2", "--yes")
    assert outcome.out == "deleted admin/headlines@2\n2.0 kB are freed within a minute\n"


def test_of_several_pipelines_of_one_name_none_is_deleted_until_it_is_said_which(
    full_platform: StubPlatform, run: Run
) -> None:
    other = "4" + JOB_ID[1:]
    two = [pipeline("failed"), {**pipeline("failed"), "id": other}]
    full_platform.answers["GET /v1/pipelines"] = (200, {"data": two, "has_more": False, "next_before": None})
    refused = run("pipelines", "rm", "chain", "--yes")
    assert refused.code == 1 and JOB_ID in refused.err and other in refused.err
    assert not any(request.method == "DELETE" for request in full_platform.requests)
    assert run("pipelines", "rm", JOB_ID[:6], "--yes").out == f"deleted chain {JOB_ID}\n"
