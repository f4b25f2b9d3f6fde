"""In which encoding a text file is: UTF-8, what a byte order mark says, or cp1252 where that explains the bytes."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from jobspecs.tables import Compression
from storage.tabular.content import open_content
from storage.tabular.stored import Stored

_CHUNK_BYTES = 128 * 1024
#: Longest first: the mark of UTF-32 begins as that of UTF-16 does.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_STRAY = re.compile("[\udc80-\udcff]")
#: What cp1252 does not define, and what stands within no word: `h„lt` was cp850, `hŠlt` Mac OS Roman.
_NOT_CP1252 = re.compile(
    rb"[\x81\x8d\x8f\x90\x9d]|(?<=[a-z])[\x80\x82-\x84\x86-\x8c\x8e\x91\x93-\x95\x98\x99\x9b\x9f](?=[a-z])"
)
#: Western texts have fewer bytes beyond ASCII than this share; those of other scripts far more.
_SHARE_MAX = 0.25
#: Fewer stray bytes than this tell nothing of their share.
_FEW = 20


@dataclass
class _Tally:
    """Of a file without a mark: bytes, characters beyond ASCII, bytes that are no UTF-8, and those odd in cp1252."""

    content_bytes: int = 0
    beyond_ascii: int = 0
    stray: int = 0
    odd: int = 0

    def encoding(self) -> str:
        """UTF-8 that is damaged stays UTF-8: read as cp1252 its other letters would become two each, unnoticed."""
        western = self.stray > 10 * self.beyond_ascii and self.odd * 10 <= self.stray
        if self.stray >= _FEW:
            western = western and self.stray < _SHARE_MAX * self.content_bytes
        return "cp1252" if western else "utf-8"


def recognised_encoding(path: Stored, file: str, *, compression: Compression | None, max_bytes: int) -> str:
    """Reads the whole file: the first byte that is not UTF-8 may be its last. Raises what `open_content` does."""
    tally = _Tally()
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    with open_content(path, file, compression=compression, max_bytes=max_bytes) as content:
        while chunk := content.read(_CHUNK_BYTES):
            mark = next((name for mark, name in _MARKS if not tally.content_bytes and chunk.startswith(mark)), None)
            if mark is not None:
                return mark
            tally.content_bytes += len(chunk)
            text = decoder.decode(chunk)
            if not text.isascii():
                stray = len(_STRAY.findall(text))
                tally.stray += stray
                tally.beyond_ascii += len(text) - len(text.encode("ascii", "ignore")) - stray
                tally.odd += len(_NOT_CP1252.findall(chunk)) if stray else 0
    return tally.encoding()
