"""Rows of one sheet of a workbook, its cells as texts: a formula's last value, `3` and not `3.0`, dates in ISO 8601.

Calamine holds the whole sheet in memory, and a cell far below makes that huge: foreign files are read confined.
"""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

from jobspecs.dialect import Dialect
from storage.tabular.content import BYTES_REMEDY, check_growth
from storage.tabular.formats import FIELD_CHARS_MAX, checked_columns, refusal
from storage.tabular.headers import named_columns, shortened
from storage.tabular.stored import Stored
from storage.tabular.titles import title_rows
from storage.tabular.values import duration, text_of

_REMEDY = "Save it again as .xlsx or .ods without a password, or save the sheet as CSV."
Cells = list[str]


def sheet_dialect(path: Stored, file: str, told: Dialect, max_bytes: int, notices: list[str]) -> Dialect:
    """The dialect with the sheet, by its name, and the names of the columns. Raises InvalidInput."""
    with _readable(path, file, max_bytes) as workbook:
        sheet = _chosen(workbook, told.sheet, file, notices)
        records = _cells(workbook.get_sheet_by_name(sheet))
        titles = 0 if told.columns else title_rows(records)
        if titles:
            shown = ", ".join(repr(shortened(record[0].strip())) for record in records[:titles])
            notices.append(f"Rows before the names of the columns are left out: {shown}.")
        header, *rows = records[titles:] or [[]]
        names = told.columns or named_columns(header, rows[:50], notices)
    return told.model_copy(update={"sheet": sheet, "columns": names, "skip_lines": titles})


def sheet_rows(path: Stored, file: str, dialect: Dialect, max_bytes: int) -> Iterator[dict[str, str]]:
    """Yields each row that has a value as {column: text}; the dialect is whole. Raises InvalidInput."""
    with _readable(path, file, max_bytes) as workbook:
        records = _cells(workbook.get_sheet_by_name(_chosen(workbook, dialect.sheet, file, [])))
    if not dialect.columns:
        raise refusal("there is no header.", file, "Put the names of the columns in the sheet's first row.")
    header = checked_columns(dialect.columns, file)
    for row, record in enumerate(records[dialect.skip_lines + dialect.has_header :], start=1):
        if len(record) != len(header):
            message = f"the sheet has {len(record)} columns, the names given are {len(header)}."
            raise refusal(message, file, "Name every column that has a value: --columns.", row)
        if any(len(cell) > FIELD_CHARS_MAX for cell in record):
            raise refusal(f"a cell is longer than {FIELD_CHARS_MAX:,} characters.", file, "Shorten it.", row)
        yield dict(zip(header, record, strict=True))


@contextmanager
def _readable(path: Stored, file: str, max_bytes: int) -> Iterator[CalamineWorkbook]:
    """The workbook; what calamine says of a damaged one, also in a panic of its own, is said of the file."""
    try:
        with path.open("rb") as stream:
            with zipfile.ZipFile(stream) as archive:
                content_bytes = sum(member.file_size for member in archive.infolist())
            check_growth(path, content_bytes, path.stat().st_size, "workbook", file)
            if content_bytes > max_bytes:
                raise refusal(f"the content is larger than {max_bytes:,} bytes.", file, BYTES_REMEDY)
            stream.seek(0)
            with CalamineWorkbook.from_filelike(stream) as workbook:
                yield workbook
    except (CalamineError, zipfile.BadZipFile, OSError, ValueError) as error:
        raise refusal(f"the workbook can't be read ({error}).", file, _REMEDY) from error
    except BaseException as error:
        # The class of a panic can't be imported; it is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise refusal("the workbook is damaged.", file, _REMEDY) from error


def _chosen(workbook: CalamineWorkbook, told: str | None, file: str, notices: list[str]) -> str:
    names = [sheet.name for sheet in workbook.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
    shown = [
        sheet.name
        for sheet in workbook.sheets_metadata
        if sheet.name in names and sheet.visible == SheetVisibleEnum.Visible
    ] or names
    if not names:
        raise refusal("the workbook has no sheet of cells.", file, "Put the table into one.")
    if told is None:
        if len(shown) > 1:
            others = ", ".join(map(repr, shown[1:]))
            notices.append(f"The first sheet, {shown[0]!r}, is taken. For another push with --sheet: {others}.")
        return shown[0]
    if told in names:
        return told
    if told.isascii() and told.isdecimal() and 0 < int(told) <= len(names):
        return names[int(told) - 1]
    message = f"there is no sheet {told!r}; the sheets are {', '.join(map(repr, names))}."
    raise refusal(message, file, "Use one of these names, or a number from 1 on.", field="sheet")


def _cells(sheet: CalamineSheet) -> list[Cells]:
    """The rows that hold a value, without the columns that hold none."""
    records = [[_text(cell) for cell in row] for row in sheet.iter_rows()]
    filled = [record for record in records if any(cell.strip() for cell in record)]
    used = [place for place, cells in enumerate(zip(*filled, strict=True)) if any(cell.strip() for cell in cells)]
    return [[record[place] for place in used] for record in filled]


def _text(cell: object) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, datetime.timedelta):
        # A workbook counts days, so that a second is no round number.
        return duration(datetime.timedelta(seconds=round(cell.total_seconds())))
    return text_of(cell)
