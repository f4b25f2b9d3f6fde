"""Reports and estimates as people see them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from eigenwerk.reports.forecasts import estimate_lines, report_lines, use_lines
from jobspecs.data_report import DataReport, RefusedKind
from jobspecs.estimate import Estimate
from jobspecs.problems import Problem
from tests.client.conftest import Outcome
from tests.client.documents import data_report, estimate, job
from tests.client.stub import StubPlatform


def test_the_histogram_is_drawn_with_bars_and_the_longest_fills_the_line() -> None:
    lines = report_lines(DataReport.model_validate(data_report()))
    bars = [line.count("█") for line in lines if "-" in line and "█" in line]
    assert bars[0] == 40 > bars[1] > 0
    text = "\n".join(lines)
    assert "100 (10%) are cut at 64" in text
    assert "5 of these are also trained on" in text
    assert "row 7: the cell is empty." in text


def test_an_estimate_is_a_table_whose_last_line_is_the_sum() -> None:
    lines = estimate_lines(Estimate.model_validate(estimate()))
    assert "22,700,000" in lines[0]
    assert "50.0% of them" in lines[1]
    assert any(line.startswith("all of it") and "726.0 MB" in line for line in lines)
    assert any("1m20s to 6m40s" in line for line in lines)


def test_measured_use_stands_beside_the_estimate() -> None:
    report = {
        "memory": {"estimated_bytes": 700_000_000, "measured_bytes": 650_000_000, "measured_gpu_bytes": None},
        "duration": {"estimated_low_s": 60, "estimated_high_s": 120, "measured_s": 90.0},
    }
    assert use_lines(report) == ["memory  650.0 MB  700.0 MB estimated", "time    1m30s     1m00s to 2m00s estimated"]
    assert use_lines({}) == []
    assert use_lines({"duration": report["duration"]}, attempts=3, run_s=3600) == [
        "time          1h00m  3 attempts together, 1m00s to 2m00s estimated",
        "last attempt  1m30s",
    ]


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "spec.yaml"
    path.write_text("kind: train-classifier\nname: n\ntext: headline\nlabel: quality\n", encoding="utf-8")
    return str(path)


def test_check_ends_with_1_and_the_line_of_the_field_when_the_data_cannot_work(
    run: Callable[..., Outcome], platform: StubPlatform, spec: str
) -> None:
    problems = [{"message": "3 rows can't be used.", "field": "label"}]
    platform.answers["POST /v1/jobs/check"] = (200, data_report(problems=problems))
    outcome = run("check", spec)
    assert outcome.code == 1
    assert ":4: field label: 3 rows can't be used." in outcome.err


def test_submit_shows_warnings_and_the_job_is_queued(
    run: Callable[..., Outcome], platform: StubPlatform, spec: str
) -> None:
    warnings = [{"message": "30% of the texts are cut.", "field": "label"}]
    platform.answers["POST /v1/jobs"] = (201, job(warnings=warnings))
    outcome = run("submit", spec)
    assert outcome.code == 0
    assert "warning: " in outcome.err
    assert "30% of the texts are cut." in outcome.err


def test_a_reason_to_refuse_rows_is_said_once_with_their_number() -> None:
    problem = Problem(message="turn 3 is empty.", row=4)
    kind = RefusedKind(count=30, rows=(4, 5, 9), problem=problem)
    report = DataReport(
        kind="k", file="f", rows=40, usable=10, refused=30, refused_rows=(problem,) * 20, refused_kinds=(kind,)
    )
    assert report_lines(report)[-1] == "  row 4: turn 3 is empty. (as 29 more: row 5, 9, …)"
