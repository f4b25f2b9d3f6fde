"""Files that are not what their names' endings say: said as what they are, not as a table with faults."""

from __future__ import annotations

import re

from storage.tabular.formats import LINE_BYTES_MAX, Kind, TableFormat, refusal
from storage.tabular.stored import Stored

_HEAD_BYTES = 512
_UNPACK = "Unpack it, or compress it with gzip (.gz) or xz (.xz)."
#: How files begin, what they are, which kinds of table begin so, and what to do. What a text may begin with as well is
#: followed by bytes that no text holds.
_BEGINNINGS: tuple[tuple[bytes, str, tuple[Kind, ...], str], ...] = (
    (rb"PK\x03\x04", "a workbook or a zip archive", ("sheet",), "Name a workbook .xlsx or .ods; unpack an archive."),
    (rb"PAR1.*\0", "a Parquet file", ("parquet",), "Name it .parquet."),
    (rb"\xd0\xcf\x11\xe0", "a workbook of Excel's old format", (), "Save it as .xlsx."),
    (rb"\x28\xb5\x2f\xfd", "compressed with zstd", (), _UNPACK),
    (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", "compressed with bzip2", (), _UNPACK),
    (rb"ARROW1\0", "an Arrow file", (), "Save it as Parquet: pyarrow.parquet.write_table."),
    (rb"%PDF-", "a PDF", (), "Send its text as .txt."),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file that it stands for", (), "Fetch it: git lfs pull."),
)
_COMPRESSED = {"gz": b"\x1f\x8b", "xz": b"\xfd7zXZ\x00"}
_WEB_PAGE = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<(!doctype html|html)\b(?![^>]*>[,;|\t])", re.IGNORECASE)


def check_beginning(path: Stored, fmt: TableFormat, file: str) -> None:
    """Raises InvalidInput when the file's first bytes are those of something else than its name says."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    for ending, mark in _COMPRESSED.items():
        if head.startswith(mark) and fmt.compression != ending:
            raise _other(f"compressed as .{ending} files are", file, f"Name it with .{ending} at the end.")
    if fmt.compression is not None:
        return
    for begins, what, kinds, remedy in _BEGINNINGS:
        if re.match(begins, head, re.DOTALL) and fmt.kind not in kinds:
            raise _other(what, file, remedy)
    if _is_web_page(path, head):
        raise _other("a web page", file, "Download the file itself: pages of hosts show it, or say why they don't.")


def _is_web_page(path: Stored, head: bytes) -> bool:
    """Whether it is one page, not a column or a text file that holds a page a line."""
    page = _WEB_PAGE.match(head)
    if page is None:
        return False
    with path.open("rb") as stream:
        stream.seek(page.end())
        stream.readline(LINE_BYTES_MAX)
        second = _WEB_PAGE.match(stream.read(_HEAD_BYTES))
    return second is None or second[1].lower() != page[1].lower()


def _other(what: str, file: str, remedy: str) -> Exception:
    return refusal(f"by its first bytes the file is {what}.", file, remedy)
