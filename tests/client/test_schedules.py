"""What is wrong with a schedule is said where it stands: in the file, with its line, or among the options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import Outcome
from tests.client.stub import StubPlatform

Run = Callable[..., Outcome]
NEVER = {"field": "cron", "message": "it never happens: there is no such day.", "remedy": "Such as: 0 9 * * 1"}
ZONE = {"field": "time_zone", "message": "there is no such time zone."}
LABEL = {"field": "spec.label", "message": "there is no column mood."}
WHOLE = {"field": "spec", "message": "no host is large enough."}


@pytest.mark.parametrize(
    ("problems", "said"),
    [
        ([NEVER], ["error: --cron: it never happens: there is no such day. Such as: 0 9 * * 1"]),
        ([ZONE], ["error: --time-zone: there is no such time zone."]),
        ([LABEL], ["error: SPEC:2: field label: there is no column mood."]),
        ([WHOLE], ["error: SPEC: no host is large enough."]),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(
    platform: StubPlatform, run: Run, tmp_path: Path, problems: list[dict[str, Any]], said: list[str]
) -> None:
    error = {"message": "It can't be scheduled.", "code": "invalid_input", "problems": problems}
    platform.answers = {"POST /v1/schedules": (422, {"error": error})}
    spec = tmp_path / "spec.yaml"
    spec.write_text("kind: train-classifier\nlabel: mood\n", encoding="utf-8")
    outcome = run("schedules", "create", str(spec), "--name", "weekly", "--cron", "0 0 30 2 *")
    assert outcome.code == 1
    assert outcome.err.replace(str(spec), "SPEC").splitlines() == said
