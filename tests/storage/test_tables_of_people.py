"""Tables as people and their tools write them: taken with a notice of what was recognised, or refused with a remedy."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pushing import push, refused
from tests.storage.workbooks import xlsx

LINES = [f"satz {n},x{n % 2}" for n in range(8)]
ROWS = [{"text": f"satz {n}", "label": f"x{n % 2}"} for n in range(8)]


def csv_of(*above: str, lines: list[str] = LINES, end: str = "\r\n") -> str:
    return end.join([*above, *lines]) + end


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "notice"),
    [
        (csv_of("Umfrage 2024", "text,label"), "left out: 'Umfrage 2024'"),
        (csv_of("Umfrage", "", "text,label"), "left out: 'Umfrage'"),
        (csv_of("# exported by x", "# on 1.2.2024", "text,label"), "'# exported by x', '# on 1.2.2024'"),
        (csv_of("Umfrage 2024,", ",", "text,label"), "left out: 'Umfrage 2024,'"),
        (
            csv_of("Auswertung,", "Erstellt am 1.2.2024,", ",", "text,label"),
            "'Auswertung,', 'Erstellt am 1.2.2024,', ','",
        ),
        (csv_of('"sep=,"', "text,label"), "sep=, tells the delimiter"),
        (csv_of("\u200btext,label\u00a0"), "Invisible characters in names of columns are left out"),
        (csv_of('text, "label"', lines=[line.replace(",", ', "') + '"' for line in LINES]), "Spaces behind delimiters"),
    ],
)
def test_what_stands_before_or_around_the_cells_is_left_out_and_said(content: str, notice: str, tmp_path: Path) -> None:
    pushed = push(written(tmp_path / "t.csv", content))
    assert pushed.rows == ROWS
    assert any(notice in said for said in pushed.profile.notices), pushed.profile.notices
    assert len(pushed.profile.notices) <= 2


@pytest.mark.parametrize(
    "content",
    [
        # One column of sentences, and a second column without a name, are no titles.
        "text\r\n" + "".join(f"Ja, {n}\r\n" for n in range(8)),
        csv_of("text,"),
        csv_of("text,label", "Zwischentitel und mehr,"),
        csv_of("text,,", lines=["q one,a1,en", "q two,a2,de"]),
        csv_of("Adresse Kunde", lines=["Hauptstr. 1, Bonn", "Ring 2, Ulm", "Weg 3, Trier"]),
        csv_of("text", "", lines=["Great, thanks", "Fine, ok"]),
    ],
)
def test_a_header_is_no_title(content: str, tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", content)
    several = "," in content.splitlines()[0]
    said = push(path).profile.notices if several else (refused(path).message,)
    assert not any("before the names" in words for words in said)


def test_a_sheets_only_name_is_no_title(tmp_path: Path) -> None:
    cells: list[list[Any]] = [["Frage"], ["q1", "a1", "de"], ["q2", "a2", "en"]]
    assert push(xlsx(tmp_path / "t.xlsx", {"Blatt": cells})).rows[0]["Frage"] == "q1"


def test_a_title_above_the_names_of_a_sheets_columns_is_left_out_and_said(tmp_path: Path) -> None:
    cells: list[list[Any]] = [["Umfrage 2024"], [], ["text", "label", "n"], *[[f"a {n}", "x", n] for n in range(4)]]
    pushed = push(xlsx(tmp_path / "t.xlsx", {"Blatt": cells}))
    assert pushed.rows[0] == {"text": "a 0", "label": "x", "n": "0"}
    assert any("'Umfrage 2024'" in notice for notice in pushed.profile.notices)


def test_cells_behind_the_last_named_column_move_no_other(tmp_path: Path) -> None:
    """A delimiter at the end of rows, or one in a text, is not a column of R's names of rows."""
    pushed = push(written(tmp_path / "a.csv", csv_of("text,label", lines=[f"{line}," for line in LINES])))
    assert pushed.rows[0] == {**ROWS[0], "column_3": ""}
    problem = refused(written(tmp_path / "b.csv", csv_of("text,label", lines=[f"Ja, {line}" for line in LINES])))
    assert "the row has 3 fields, the header has 2" in problem.message
    rows = push(written(tmp_path / "c.csv", csv_of("text,label", lines=[f"r{n},a,b" for n in range(4)]))).rows
    assert rows[1] == {"index": "r1", "text": "a", "label": "b"}
    for lines in (['"good film",pos,0.9', '"bad film",neg,0.8'], [f"r{n},Ja, gut" for n in range(4)]):
        assert "the row has 3 fields" in refused(written(tmp_path / "d.csv", csv_of("text,label", lines=lines))).message
    remarked = [*(f"{line}," for line in LINES), "hm,x1,see mail"]
    pushed = push(written(tmp_path / "e.csv", csv_of("text,label", lines=remarked)))
    assert pushed.rows[0] == {**ROWS[0], "column_3": ""}
    assert pushed.rows[-1] == {"text": "hm", "label": "x1", "column_3": "see mail"}


@pytest.mark.parametrize(
    ("name", "content", "message", "remedy"),
    [
        ("t.csv", csv_of("text,label", lines=['"sagt \\"ja\\", und",x']), "something follows the quote", 'written \\"'),
        ("t.csv", 'text,label\n"a" ,b\n"c" ,d\n', "something follows the quote", "Remove the spaces behind quotes"),
        ("t.csv", "text,label\na,b\nc,d\re,f\n", "carriage return (CR)", "line ends as LF or CRLF"),
        ("t.tsv", "7\t7\t9\n1\t2\t3\n", "column '7' appears twice", "--columns"),
        ("t.csv", "<!DOCTYPE html>\n<html>\n<p>404\n", "a web page", "Download the file itself"),
        ("t.json", "<html>\n", "a web page", "Download the file itself"),
        ("t.csv", "version https://git-lfs.github.com/spec/v1\noid a\n", "Git LFS pointer", "git lfs pull"),
        ("t.csv", b"PK\x03\x04" + bytes(40), "a workbook or a zip archive", ".xlsx"),
        ("t.jsonl", b"PAR1" + bytes(40), "a Parquet file", ".parquet"),
        ("t.csv", gzip.compress(b"text,label\na,b\n", mtime=0), "compressed as .gz", "with .gz at the end"),
        ("t.jsonl", '{"a": 1e999}\n', "the number 1e999 is too large", "Mend the value"),
        ("t.jsonl", '{"a": ' + "9" * 5000 + "}\n", "more than 4,300 digits", "Mend the value"),
        ("t.jsonl", "{'a': 1}\n", "line 1 is not JSON", "json.dumps"),
        ("t.jsonl", '{"a": 1},\n{"a": 2}\n', "line 1 is not JSON", "Remove the comma"),
        ("t.jsonl", '{"a": 1} // x\n', "line 1 is not JSON", "Remove comments"),
        ("t.jsonl", json.dumps(json.dumps({"a": 1})) + "\n", "line 1 is JSON within a text", "called twice"),
        ("t.json", json.dumps([json.dumps({"a": 1})]), "element 1 is JSON within a text", "called twice"),
        ("t.json", '[{"a": 1},]', "a comma stands behind element 1", "Remove the comma"),
        ("t.json", "// x\n[]", "it begins with '/'", "Write one array"),
        ("t.jsonl", '[{"a": 1}]\n[{"a": 2}]\n', "something comes behind the array", "one array per line"),
        ("t.json", '{"data": {"train": [{"a": 1}]}}', "no key of its object holds one of objects", "Write one array"),
        ("t.json", '[{"a": 1}]'.encode("utf-16"), "the file is UTF-16", "iconv -f UTF-16"),
        ("t.json", '[{"a": "schön"}]'.encode("cp1252"), "byte 0xf6 comes behind '[{\"a\": \"sch'", "WINDOWS-1252"),
        (
            "t.json",
            '{"data": [{"paragraphs": [{"context": "C", "qas": [{"question": "Q", "answers": []}]}]}]}',
            "no question is answered",
            "--layout",
        ),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_as_what_it_is(
    name: str, content: str | bytes, message: str, remedy: str, tmp_path: Path
) -> None:
    problem = refused(written(tmp_path / name, content))
    assert message in problem.message
    assert remedy in (problem.remedy or "")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", csv_of("PAR1,PAR2")),
        ("t.csv", csv_of("BZh9,label")),
        ("t.csv", csv_of("ARROW1,label")),
        ("t.csv", csv_of("<html>,label", lines=["<p>a,x", "<p>b,y"])),
        ("t.csv", csv_of("<html>", lines=["<html><p>a", "<html><p>b"])),
        ("t.txt", csv_of(lines=[f"<!DOCTYPE html><html lang='de'><p>{n}</html>" + " " * 600 for n in range(3)])),
    ],
)
def test_texts_that_begin_as_other_files_do_are_texts(name: str, content: str, tmp_path: Path) -> None:
    assert push(written(tmp_path / name, content)).rows


def test_other_files_are_known_by_bytes_that_no_text_holds(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "t.csv")
    assert "a Parquet file" in refused(tmp_path / "t.csv").message
    ipc = pa.BufferOutputStream()
    with pa.ipc.new_file(ipc, pa.schema([("text", pa.string())])):
        pass
    for content, what in ((bz2.compress(b"text,label"), "bzip2"), (ipc.getvalue().to_pybytes(), "an Arrow file")):
        assert what in refused(written(tmp_path / "t.csv", content)).message


@pytest.mark.parametrize(
    ("name", "content", "notice"),
    [
        ("t.txt", "text\tlabel\na\tb\n", "Every line holds '\\t' equally often"),
        ("t.txt", '"text" "label"\n"1" "good film" "pos"\n"2" "bad film" 0.8\n', "as R's write.table writes"),
        (
            "t.tsv",
            "what is rba\tAccountability\nwhat is x\ty\nwho is z\tw\n",
            "looks like a row, for it holds 'what is rba'",
        ),
        ("t.txt", "__label__x a\n__label__y b\n", "fastText"),
        ("t.tsv", "text,label\na,b\nc,d\n", "push with --delimiter ','"),
        ("t.csv", "text^label\na^b\nc^d\n", "push with --delimiter '^'"),
        ("t.jsonl", '{"text": "a", "answer": "accept"}\n{"text": "b", "answer": "reject"}\n', "as Prodigy writes"),
        ("t.jsonl", json.dumps(ROWS[0], indent=1) + "\n" + json.dumps(ROWS[1]) + "\n", "several lines each"),
    ],
)
def test_what_may_be_meant_otherwise_is_said(name: str, content: str, notice: str, tmp_path: Path) -> None:
    pushed = push(written(tmp_path / name, content))
    assert [notice in said for said in pushed.profile.notices] == [True]


def test_numbers_of_tokens_are_no_tokens(tmp_path: Path) -> None:
    """GermEval's form of CoNLL: a number before each token, and comments with tabs in them."""
    content = "#\thttp://x [2009]\n1\tAnna\tB-PER\tO\n2\tlacht\tO\tO\n\n#\thttp://y\n1\tBerlin\tB-LOC\tO\n"
    rows = push(written(tmp_path / "t.conll", content)).rows
    assert [row["tokens"] for row in rows] == [["Anna", "lacht"], ["Berlin"]]
    assert push(written(tmp_path / "u.conll", "1\tCD\tO\nmal\tNN\tO\n")).rows[0]["tokens"] == ["1", "mal"]
    rows = push(written(tmp_path / "v.conll", "1\tHalt\tV\tO\n\n1\tAnna\tN\tO\n2\tlacht\tV\tO\n")).rows
    assert [row["tokens"] for row in rows] == [["Halt"], ["Anna", "lacht"]]


@pytest.mark.parametrize(
    "content",
    [
        "# sent_id = 1\na\tN\tx\tO\n#\tN\tx\tX\n\n# sent_id = 2\n#c\tN\tx\tO\n",
        "# id1\na O\n# X\n\n# id2\n# more\n#c O\n",
        "# id1\na\tO\n#\tX\n\n# id2\n#c\tO\n",
        "# id f42\tdomain=en\na _ _ O\n# _ _ X\n\n# id f43\tdomain=en\n#c _ _ O\n",
    ],
)
def test_comments_are_no_tokens_though_they_have_as_many_fields(content: str, tmp_path: Path) -> None:
    rows = push(written(tmp_path / "t.conll", content)).rows
    assert [(row["tokens"], row["tags"]) for row in rows] == [(["a", "#"], ["O", "X"]), (["#c"], ["O"])]


def test_quotes_that_spaces_hide_on_both_sides_are_said_to_be_text(tmp_path: Path) -> None:
    pushed = push(written(tmp_path / "t.csv", 'text,label\nx, "A b" \ny, "C d" \n'))
    assert pushed.rows[0]["label"] == ' "A b" '
    assert any("Quotes with spaces around are text, as in ' \"A b\" '" in notice for notice in pushed.profile.notices)
    assert not push(written(tmp_path / "u.csv", 'text,label\nx,"A b"\ny," C "\n')).profile.notices
