"""Writes workbooks as small as programs still read them."""

from __future__ import annotations

import zipfile
from pathlib import Path

Cell = str | int | float | bool | None
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_LINK = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_STYLES = f'<styleSheet xmlns="{_MAIN}"><cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>'


def _xlsx_cell(place: str, cell: Cell) -> str:
    if isinstance(cell, bool):
        return f'<c r="{place}" t="b"><v>{int(cell)}</v></c>'
    if isinstance(cell, str) and cell.startswith("date:"):
        return f'<c r="{place}" s="1"><v>{cell.removeprefix("date:")}</v></c>'
    if isinstance(cell, str) and cell.startswith("="):
        return f'<c r="{place}"><f>{cell}</f><v>42</v></c>'
    if isinstance(cell, str):
        return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{cell}</t></is></c>'
    return "" if cell is None else f'<c r="{place}"><v>{cell}</v></c>'


def xlsx(path: Path, sheets: dict[str, list[list[Cell]]], hidden: str = "", head: str = "", last: str = "") -> Path:
    """A workbook as small as Excel still reads it."""
    ids = range(1, len(sheets) + 1)
    state = {hidden: 'state="hidden" '}
    named = [
        f'<sheet name="{name}" sheetId="{n}" r:id="r{n}" {state.get(name, "")}/>'
        for n, name in zip(ids, sheets, strict=True)
    ]
    links = [f'<Relationship Id="r{n}" Type="{_LINK}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in ids]
    styles = f'<Relationship Id="s" Type="{_LINK}/styles" Target="styles.xml"/>'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", f'<Types xmlns="{_PACKAGE}/content-types"/>')
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="w" Type="{_LINK}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        book = f'<workbook xmlns="{_MAIN}" xmlns:r="{_LINK}"><sheets>{"".join(named)}</sheets></workbook>'
        archive.writestr("xl/workbook.xml", book)
        related = f'<Relationships xmlns="{_PACKAGE}/relationships">{"".join(links)}{styles}</Relationships>'
        archive.writestr("xl/_rels/workbook.xml.rels", related)
        archive.writestr("xl/styles.xml", _STYLES)
        for n, rows in zip(ids, sheets.values(), strict=True):
            lines = [
                f'<row r="{y}">{"".join(_xlsx_cell(f"{chr(65 + x)}{y}", cell) for x, cell in enumerate(row))}</row>'
                for y, row in enumerate(rows, start=1)
            ]
            if last:
                lines.append(f'<row r="{last.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")}">{_xlsx_cell(last, 1)}</row>')
            data = f'{head}<worksheet xmlns="{_MAIN}"><sheetData>{"".join(lines)}</sheetData></worksheet>'
            archive.writestr(f"xl/worksheets/sheet{n}.xml", data)
    return path


def ods(path: Path, rows: list[list[Cell]], more: str = "") -> Path:
    office, table, text = (f"urn:oasis:names:tc:opendocument:xmlns:{name}:1.0" for name in ("office", "table", "text"))

    def cell_of(cell: Cell) -> str:
        if isinstance(cell, bool):
            return f'<table:table-cell office:value-type="boolean" office:boolean-value="{str(cell).lower()}"/>'
        if isinstance(cell, int | float):
            return f'<table:table-cell office:value-type="float" office:value="{cell}"/>'
        inside = "" if cell is None else f"<text:p>{cell}</text:p>"
        return (
            f'<table:table-cell office:value-type="string">{inside}</table:table-cell>'
            if inside
            else "<table:table-cell/>"
        )

    lines = "".join(f"<table:table-row>{''.join(map(cell_of, row))}</table:table-row>" for row in rows)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet", zipfile.ZIP_STORED)
        manifest = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
        archive.writestr("META-INF/manifest.xml", f'<manifest xmlns="{manifest}"/>')
        archive.writestr(
            "content.xml",
            f'<office:document-content xmlns:office="{office}" xmlns:table="{table}" xmlns:text="{text}">'
            f"<office:body><office:spreadsheet>"
            f'<table:table table:name="Blatt">{lines}{more}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return path
