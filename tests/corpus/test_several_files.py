"""Problems of rows of several files: the file that holds the row, and its number there."""

from __future__ import annotations

from pathlib import Path

import pytest

from corpus.checks.findings import Findings
from corpus.checks.inspection import check_data
from corpus.checks.occurrences import Refusals
from corpus.checks.reader import Reader
from corpus.checks.remarks import Remark
from corpus.checks.rows import CheckedFile
from corpus.held_out import parts_of
from eigenwerk.files.several_files import as_one, named_files
from jobspecs.data_report import ROWS_NAMED
from jobspecs.dialect import Dialect, PartFile
from jobspecs.problems import Problem
from jobspecs.registry import parse_spec
from storage.tabular import detect_format, profile_table
from workers.run.context import RunFailed
from workers.training.classification.data import load_texts


def test_a_check_names_the_file_that_holds_a_row_and_its_number_there(tmp_path: Path) -> None:
    rows = "".join(f"text {number},{'ja' if number % 2 else 'nein'}\n" for number in range(20))
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    a.write_text(f"text,label\n{rows}")
    b.write_text("text,label\n,ja\ntext 2,ja\n,nein\n")
    spec = parse_spec(
        {"kind": "train-classifier", "name": "t", "model": "hub:o/b", "dataset": "d", "text": "text", "label": "label"}
    )
    with as_one(named_files([a, b]), "t") as path:
        profile = profile_table(path, detect_format(path.name), path.name)
        dialect = profile.dialect or Dialect()
        report = check_data(spec, CheckedFile.of(path, dialect), Reader.load(None))
    assert report is not None
    [kind] = report.refused_kinds
    assert (kind.problem.file, kind.problem.row, kind.row_names) == ("b.csv", 1, ("1 of b.csv", "3 of b.csv"))
    assert [(problem.file, problem.row) for problem in report.problems] == [("b.csv", 1)]
    [said] = [problem for problem in report.warnings if "several classes" in problem.message]
    assert (said.file, said.row) == ("b.csv", 2)
    assert "rows 3 of a.csv and 2 of b.csv" in said.message
    with as_one(named_files([a, b]), "t") as path, pytest.raises(RunFailed, match=r"file b\.csv, row 1"):
        load_texts(parts_of(CheckedFile.of(path, dialect)), "text", "label")
    [problem] = map(dialect.located, spec.problems_with(profile))
    assert (problem.file, problem.row) == ("b.csv", 1)


def test_the_file_of_a_row_is_looked_up_only_for_rows_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    dialect = Dialect(files=tuple(PartFile(name=f"{number}.csv", rows=1) for number in range(1000)))
    looked_up: list[int] = []
    place = Dialect.place

    def counted(self: Dialect, row: int) -> tuple[str | None, int]:
        looked_up.append(row)
        return place(self, row)

    monkeypatch.setattr(Dialect, "place", counted)
    found, refusals = Findings(), Refusals()
    found.begin(dialect)
    remark = Remark("text", "looks odd.", "Look at it.")
    for row in range(1, 1001):
        found.remark(remark, row)
        refusals.add(Problem(message=f"turn {row} is empty.", remedy="Fill it.", row=row), dialect)
    assert (found.remarks[remark].count, refusals.kinds[0].count) == (1000, 1000)
    assert found.remarks[remark].row_names == refusals.kinds[0].row_names
    # And for each kind the file of its first row.
    assert len(looked_up) == 2 * (ROWS_NAMED + 1)
