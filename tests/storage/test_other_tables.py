"""Workbooks, lines of text and tagged tokens: what people see in them is what is read."""

from __future__ import annotations

import lzma
import os
from pathlib import Path
from typing import Any

import pytest

from jobspecs.dialect import Dialect, named_columns
from jobspecs.problems import InvalidInput, Problem
from jobspecs.profile import DatasetProfile
from storage.tabular import detect_format, profile_table, read_rows
from tests.storage.workbooks import Cell, ods, xlsx


def pushed(path: Path, told: Dialect | None = None) -> tuple[DatasetProfile, list[dict[str, Any]]]:
    profile = profile_table(path, detect_format(path.name, told), path.name)
    return profile, list(read_rows(path, detect_format(path.name, profile.dialect)))


def refused(path: Path, told: Dialect | None = None) -> Problem:
    with pytest.raises(InvalidInput) as error:
        pushed(path, told)
    [problem] = error.value.problems
    assert problem.remedy
    return problem


def test_cells_of_a_sheet_are_read_as_people_see_them(tmp_path: Path) -> None:
    rows: list[list[Cell]] = [
        ["text ", "n", "share", "day", "ok", "sum", None],
        ["0012 hält", 3, 0.25, "date:45293", True, "=1+41", None],
        [None] * 7,
        ["b", None, 1e20, None, False, None, None],
        ["", None, None, None, None, None, None],
    ]
    profile, read = pushed(xlsx(tmp_path / "t.xlsx", {"Daten": rows}))
    assert read == [
        {"text": "0012 hält", "n": "3", "share": "0.25", "day": "2024-01-02", "ok": "true", "sum": "42"},
        {"text": "b", "n": "", "share": "1e+20", "day": "", "ok": "false", "sum": ""},
    ]
    assert (str(profile.dialect), profile.columns["n"].kind) == ("sheet Daten", "number")
    assert profile.notices == ("Spaces round the names of columns are left out: 'text '.",)


def test_a_sheet_is_chosen_by_name_or_number_and_the_choice_is_kept(tmp_path: Path) -> None:
    sheets: dict[str, list[list[Cell]]] = {"Alt": [["x"], [0]], "A": [["text"], ["a"]], "B": [["text"], ["b"]]}
    path = xlsx(tmp_path / "t.xlsx", sheets, hidden="Alt")
    profile, read = pushed(path)
    assert (read, profile.notices) == (
        [{"text": "a"}],
        ("The first sheet, 'A', is taken. For another push with --sheet: 'B'.",),
    )
    assert pushed(path, Dialect(sheet="B"))[1] == [{"text": "b"}]
    by_number = pushed(path, Dialect(sheet="3"))
    assert (by_number[1], str(by_number[0].dialect)) == ([{"text": "b"}], "sheet B")
    problem = refused(path, Dialect(sheet="C"))
    assert (problem.field, "'Alt', 'A', 'B'" in problem.message) == ("sheet", True)
    assert pushed(path, named_columns(["t"]))[1] == [{"t": "text"}, {"t": "a"}]
    assert "names given are 2" in refused(path, named_columns(["t", "u"])).message


def test_an_open_document_is_read_alike(tmp_path: Path) -> None:
    cells = '<table:table-cell table:number-columns-repeated="16000"/>'
    empty = f'<table:table-row table:number-rows-repeated="1048000">{cells}</table:table-row>'
    path = ods(tmp_path / "t.ods", [["text", "n"], ["hält", 3], [None, None], ["x", True]], empty)
    assert pushed(path)[1] == [{"text": "hält", "n": "3"}, {"text": "x", "n": "true"}]


@pytest.mark.parametrize("content", [b"", b"text,label\na,b\n", b"PK\x03\x04" + b"\0" * 64])
def test_what_is_no_workbook_is_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("t.xlsx", "t.ods"):
        (tmp_path / name).write_bytes(content)
        assert "can't be read" in refused(tmp_path / name).message


def test_a_workbook_that_expands_ends_within_its_bounds(tmp_path: Path) -> None:
    """Entities are not resolved, a repeated row takes no more than its memory, and an archive that grows is refused."""
    head = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
    entities = xlsx(tmp_path / "e.xlsx", {"A": [["text"], ["&c;"]]}, head=head)
    try:
        assert "bbbb" not in str(pushed(entities)[1])
    except InvalidInput as error:
        assert "can't be read" in str(error)
    growing = xlsx(tmp_path / "g.xlsx", {"A": [["text"], ["x" * 20_000_000]]})
    assert "grows to more than 200 times" in refused(growing).message


def test_lines_of_text_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes('eins, zwei\r\n\r\n"drei\tvier\r\nhält'.encode("cp1252"))
    profile, read = pushed(path)
    assert read == [{"text": "eins, zwei"}, {"text": '"drei\tvier'}, {"text": "hält"}]
    assert str(profile.dialect) == "cp1252, CRLF"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.conll", "-DOCSTART-\tO\n\nKatja\tB-PER\n#\tO\n\n\nHu\tB-LOC\n"),
        ("t.conll", "Katja NNP B-PER\n# x O\n\nHu NNP B-LOC\n"),
        (
            "t.conllu",
            "# text = Katja #\n1\tKatja\tk\tB-PER\t_\t_\t0\t_\t_\t_\n2-3\tab\t_\t_\t_\t_\t_\t_\t_\t_\n"
            "2\t#\t#\tO\t_\t_\t0\t_\t_\t_\n\n1\tHu\t_\tB-LOC\t_\t_\t0\t_\t_\t_\n\n",
        ),
    ],
)
def test_blocks_of_tagged_tokens_are_rows(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert pushed(tmp_path / name)[1] == [
        {"text": "Katja #", "tokens": ["Katja", "#"], "tags": ["B-PER", "O"]},
        {"text": "Hu", "tokens": ["Hu"], "tags": ["B-LOC"]},
    ]


def test_a_token_without_a_tag_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.conll").write_text("a\tO\n\nb\n")
    problem = refused(tmp_path / "t.conll")
    assert (problem.row, "line 3 has 1 fields" in problem.message) == (2, True)
    (tmp_path / "t.conll").write_text("a\tO\n")
    assert "No kind of job trains on tags yet" in pushed(tmp_path / "t.conll")[0].notices[0]
    (tmp_path / "t.conll").write_text("a\nb\n")
    assert ".txt" in (refused(tmp_path / "t.conll").remedy or "")


DATA = Path(os.environ.get("EIGENWERK_DATA_DIR", Path(__file__).parents[2].parent / "shared" / "data"))


@pytest.mark.skipif(not DATA.is_dir(), reason="the files of ../shared are not beside this clone")
@pytest.mark.parametrize(("name", "rows"), [("wikiann-de-test.conll.xz", 1500), ("wnut17-dev.conll.xz", None)])
def test_public_corpora_of_entities_are_read(name: str, rows: int | None) -> None:
    with lzma.open(DATA / name, "rt", encoding="utf-8") as file:
        # One of them ends with a byte order mark on a line of its own.
        tokens = sum(bool(line.strip("\ufeff\n")) for line in file)
    read = list(read_rows(DATA / name, detect_format(name)))
    assert sum(len(row["tokens"]) for row in read) == tokens
    assert rows in (None, len(read))
