"""Text tables as people have them: what is told is obeyed, what is not is recognised and said."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from jobspecs.dialect import DELIMITER_NAMES, Dialect, LineEnd, Quote
from jobspecs.problems import InvalidInput, Problem
from jobspecs.profile import DatasetProfile
from storage.tabular import TableFormat, detect_format, profile_table, read_rows
from storage.tabular.quoting import with_quote

ENDS: dict[LineEnd, str] = {"LF": "\n", "CRLF": "\r\n", "CR": "\r"}
Rows = list[dict[str, Any]]


def pushed(path: Path, content: str | bytes, **told: Any) -> tuple[DatasetProfile, Rows]:
    """The profile, and the rows as whoever reads the version later gets them: by the dialect that was kept."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    profile = profile_table(path, detect_format(path.name, Dialect(**told)), path.name)
    assert profile.dialect is not None
    kept = Dialect.model_validate_json(profile.dialect.model_dump_json())
    return profile, list(read_rows(path, detect_format(path.name, kept)))


def refused(path: Path, content: str | bytes, **told: Any) -> Problem:
    with pytest.raises(InvalidInput) as error:
        pushed(path, content, **told)
    [problem] = error.value.problems
    assert problem.remedy
    return problem


@st.composite
def written_tables(draw: st.DrawFn) -> tuple[list[list[str]], Dialect, bytes]:
    """Any table in any dialect that can hold it: the records with the header, the dialect, and the file."""
    quote: Quote = draw(st.sampled_from(['"', "'", "none"]))
    end: LineEnd = draw(st.sampled_from(["LF", "CRLF", "CR"]))
    encoding = draw(st.sampled_from(["utf-8", "utf-16", "utf-16-be", "utf-32", "cp1252", "gb18030"]))
    delimiter = draw(st.sampled_from([*DELIMITER_NAMES.values(), "#"]))
    # Without quotes nothing can hold what separates; csv reads a line end that is not the file's as one all the same.
    barred = f"\0{delimiter}\r\n\u2028\x85" if quote == "none" else "\0\r\n" if end == "CR" else "\0"
    western = encoding == "cp1252"
    texts = st.text(
        st.characters(max_codepoint=126 if western else None, exclude_categories=["Cs"], exclude_characters=barred)
        | st.sampled_from("äß€"),
        min_size=0,
        max_size=12,
    )
    names = st.text(st.sampled_from("abcdefgh"), min_size=1, max_size=5)
    header = draw(st.lists(names, min_size=2, max_size=4, unique=True))
    rows = draw(st.lists(st.lists(texts, min_size=len(header), max_size=len(header)), min_size=1, max_size=6))
    text = io.StringIO(newline="")
    if quote == "none":
        text.write("".join(delimiter.join(record) + ENDS[end] for record in [header, *rows]))
    else:
        # Told one line end, the csv module does not quote the other, which ends a line for readers all the same.
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, delimiter=delimiter, quotechar=quote, lineterminator=ENDS[end])
        writer.writerows([header, *rows])
    told = Dialect(delimiter=delimiter, quote=quote, encoding=encoding, line_end=end)
    return [header, *rows], told, text.getvalue().encode(encoding)


@settings(max_examples=150, deadline=None)
@given(written_tables())
def test_any_table_in_any_dialect_is_read_back_the_same_when_the_dialect_is_told(
    written: tuple[list[list[str]], Dialect, bytes],
) -> None:
    (header, *rows), told, content = written
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        path.write_bytes(content)
        read = list(read_rows(path, TableFormat("csv", None, told)))
    assert read == [dict(zip(header, row, strict=True)) for row in rows]


@pytest.mark.parametrize("delimiter", DELIMITER_NAMES)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_dialect_that_leaves_no_doubt_is_recognised(
    tmp_path: Path, delimiter: str, end: LineEnd, encoding: str
) -> None:
    between = DELIMITER_NAMES[delimiter]
    records = [["text", "label"], [f"Gerät läuft{between} sehr gut", "gut"], ['er sagte "nein"', "schlecht"]]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=between, lineterminator=ENDS[end]).writerows(records)
    profile, rows = pushed(tmp_path / "t.csv", text.getvalue().encode(encoding))
    assert rows == [{"text": text, "label": label} for text, label in records[1:]]
    known = "utf-8" if encoding == "utf-8-sig" else encoding
    assert str(profile.dialect) == f'{delimiter}, quotes ", {known}, {end}'
    assert [notice for notice in profile.notices if "cp1252" not in notice] == []
    assert bool(profile.notices) == (encoding == "cp1252")


LITERAL = 'text\tlabel\n"ganz zitiert"\tA\n"offen\tB\nzwei\tC\ndrei"\tD\n'


@pytest.mark.parametrize("late", [False, True])
def test_quotes_that_would_swallow_lines_of_a_tsv_are_text(tmp_path: Path, late: bool) -> None:
    """Also where the first of them comes long after the lines by which the delimiter is judged."""
    filler = "".join(f"satz {number}\tA\n" for number in range(3000)) if late else ""
    header, _, rest = LITERAL.partition("\n")
    profile, rows = pushed(tmp_path / "t.tsv", f"{header}\n{filler}{rest}")
    assert [row["label"] for row in rows][-4:] == ["A", "B", "C", "D"]
    assert rows[-4]["text"] == '"ganz zitiert"'
    assert profile.dialect is not None
    assert profile.dialect.quote == "none"
    assert "Quotes are read as text" in profile.notices[0]


def test_quotes_in_a_tsv_that_swallow_nothing_quote(tmp_path: Path) -> None:
    profile, rows = pushed(tmp_path / "t.tsv", 'text\tlabel\n"eins ""zwei"""\tA\ndrei\tB\n')
    assert rows[0] == {"text": 'eins "zwei"', "label": "A"}
    assert profile.notices == ()


def test_quotes_that_may_be_text_or_not_have_to_be_told(tmp_path: Path) -> None:
    content = 'text,label\n"offen,B\nzwei",C\n'
    problem = refused(tmp_path / "t.csv", content)
    assert (problem.field, "from line 2 on" in problem.message) == ("quote", True)
    assert [row["label"] for row in pushed(tmp_path / "t.csv", content, quote="none")[1]] == ["B", "C"]
    assert pushed(tmp_path / "t.csv", content, quote='"')[1] == [{"text": "offen,B\nzwei", "label": "C"}]


def test_single_quotes_are_recognised_where_they_quote(tmp_path: Path) -> None:
    profile, rows = pushed(tmp_path / "t.csv", "'text','label'\n'so, ''nicht''','A'\n")
    assert rows == [{"text": "so, 'nicht'", "label": "A"}]
    assert "quotes '" in str(profile.dialect)
    assert pushed(tmp_path / "u.csv", "text,label\n'tis so,A\n")[1] == [{"text": "'tis so", "label": "A"}]


@pytest.mark.parametrize(
    ("content", "columns", "notice"),
    [
        (",text,label\n0,a,b\n1,c,d\n", ["index", "text", "label"], "no name and is taken as 'index'"),
        ("text\tlabel\n1\ta\tb\n2\tc\td\n", ["index", "text", "label"], "one field more than the header"),
        (",index\n0,a\n", ["index_", "index"], "taken as 'index_'"),
        ("text,,label\na,b,c\n", ["text", "column_2", "label"], "Column 2 has no name"),
        ("text, label \na,b\n", ["text", "label"], "left out: ' label '"),
        ("\n\ntext,label\na,b\n", ["text", "label"], "left out: 2"),
        ("sep=;\r\ntext;label\r\na;b\r\n", ["text", "label"], "sep=; tells the delimiter"),
        ("weck mich,2\nlicht an,0\n", ["weck mich", "2"], "it holds '2'"),
        ("alles gut,ja\nalles schlecht,nein\nna ja,ja\n", ["alles gut", "ja"], "--columns A,B"),
    ],
)
def test_what_is_taken_for_granted_is_said(tmp_path: Path, content: str, columns: list[str], notice: str) -> None:
    profile, rows = pushed(tmp_path / "t.csv", content)
    assert list(profile.columns) == columns == list(rows[0])
    assert notice in " ".join(profile.notices)


def test_a_delimiter_that_cannot_be_typed_is_told_as_it_is_spelled(tmp_path: Path) -> None:
    profile, rows = pushed(tmp_path / "t.csv", "text\x01label\na, b\x01c\n", delimiter="\\x01")
    assert (profile.dialect and profile.dialect.delimiter, rows) == ("\x01", [{"text": "a, b", "label": "c"}])


def test_a_quote_left_open_is_refused_without_reading_all_lines_for_the_dialect() -> None:
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        for line in ("a,b\n", '"x\n', *["x\n"] * 10_000):
            taken += 1
            yield line

    assert with_quote(lines, Dialect(delimiter=","), "t.csv", []).quote == '"'
    assert taken == 2


def test_names_that_are_told_make_the_first_line_a_row(tmp_path: Path) -> None:
    profile, rows = pushed(tmp_path / "t.tsv", LITERAL.partition("\n")[2], columns=("text", "label"), has_header=False)
    assert [row["label"] for row in rows] == ["A", "B", "C", "D"]
    assert "no header" in str(profile.dialect)


@pytest.mark.parametrize(
    ("content", "row", "message"),
    [
        (b"text,label\na,b\nc\n", 2, 'read as comma, quotes ", utf-8, LF'),
        (b"text/label\na,b\n", 1, "the row has 2 fields, the header has 1 (read as comma"),
        (b'text,label\n"a,b\n', 1, "a quote that opens a field is never closed"),
        (b'text,label\n"a"b,c\n', 1, "something follows the quote that closes a field"),
        (b"text,label\na\rb,c\n", 1, "a carriage return (CR) stands outside quotes"),
        ("text,label\nhält,1\n".encode("cp850"), 1, "not UTF-8"),
        ("text,label\nПлохой товар и ужасный сервис,1\n".encode("cp1251"), 1, "not UTF-8"),
        ("text,label\nhält,1\n".encode() + b"gr\xfcn,2\n", 2, "not UTF-8"),
    ],
)
def test_a_refusal_says_what_was_assumed_and_never_in_pythons_words(
    tmp_path: Path, content: bytes, row: int, message: str
) -> None:
    problem = refused(tmp_path / "t.csv", content)
    assert (problem.row, message in problem.message) == (row, True)
    assert not any(words in problem.message for words in ("newline", "field limit", "_csv", "expected after"))
    assert "--" in (problem.remedy or "")


def test_the_remedies_of_refusals_work(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert pushed(path, "text/label\na,b/c\n", delimiter="/")[1] == [{"text": "a,b", "label": "c"}]
    assert pushed(path, 'text,label\n"a,b\n', quote="none")[1] == [{"text": '"a', "label": "b"}]
    assert pushed(path, "text,label\nhält,1\n".encode("cp850"), encoding="cp850")[1][0]["text"] == "hält"
    assert pushed(path, "text,label\nплохо,1\n".encode("cp1251"), encoding="windows-1251")[1][0]["text"] == "плохо"


@pytest.mark.parametrize("told", [{"delimiter": "ab"}, {"delimiter": "\n"}, {"encoding": "rot13"}, {"quote": "x"}])
def test_what_is_no_dialect_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Dialect(**told)


def test_a_format_without_a_dialect_refuses_to_be_told_one() -> None:
    with pytest.raises(InvalidInput) as error:
        detect_format("rows.jsonl", Dialect(delimiter=";"))
    assert error.value.problems[0].field == "delimiter"
