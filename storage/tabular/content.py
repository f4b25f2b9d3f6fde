"""The bytes of a file, decompressed if need be: bounded in size and in how far they may grow."""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from storage.tabular.formats import Compression, refusal

#: A compressed file may grow by this factor; judged only after GRACE_BYTES, since short texts compress oddly.
RATIO_MAX = 1000
GRACE_BYTES = 10 * 1024 * 1024
#: Memory that decompressing xz may take, in bytes: what its strongest preset needs, four times over.
XZ_MEMORY_BYTES_MAX = 256 * 1024 * 1024
_BUFFER_BYTES = 256 * 1024


@contextmanager
def open_content(path: Path, file: str, *, compression: Compression | None, max_bytes: int) -> Iterator[IO[bytes]]:
    """The content as a stream.

    Reading raises InvalidInput for a damaged or exploding file and beyond `max_bytes` of (decompressed) content.
    """
    with (
        path.open("rb") as raw,
        io.BufferedReader(_Bounded(raw, file, compression, max_bytes), _BUFFER_BYTES) as stream,
    ):
        yield stream


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Xz:
    """What lzma.LZMAFile does, with a bound for the memory that the file itself may ask for."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._stream = _decompressor()
        #: Compressed bytes behind the end of a stream: the next one, as `cat a.xz b.xz` makes them.
        self._rest = b""
        self._begun = False

    def read(self, size: int, /) -> bytes:
        while True:
            if self._stream.eof:
                self._rest = self._stream.unused_data.lstrip(b"\0")
                self._stream = _decompressor()
                self._begun = False
            given = self._rest
            if not given and self._stream.needs_input:
                given = self._raw.read(_BUFFER_BYTES)
                if not given:
                    if self._begun:
                        raise EOFError
                    return b""
            self._rest = b""
            self._begun = self._begun or bool(given)
            data = self._stream.decompress(given, size)
            if data:
                return data


def _decompressor() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES_MAX)


def _source(raw: IO[bytes], compression: Compression | None) -> _Source:
    if compression == "gz":
        return gzip.GzipFile(fileobj=raw)
    return _Xz(raw) if compression == "xz" else raw


class _Bounded(io.RawIOBase):
    """The content of a file, decompressed if need be, which stops at the limits with an error for people."""

    def __init__(self, raw: IO[bytes], file: str, compression: Compression | None, max_bytes: int) -> None:
        self._raw = raw
        self._source = _source(raw, compression)
        self._format = {"gz": "gzip", "xz": "xz", None: "plain"}[compression]
        self._compressed = compression is not None
        self._file = file
        self._max_bytes = max_bytes
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            data = self._source.read(len(buffer))
        except EOFError as error:
            remedy = "Send it again; the upload or the copy was cut off."
            raise refusal(f"the {self._format} file ends too early.", self._file, remedy) from error
        except (gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
            message = f"the {self._format} file is damaged ({error})."
            raise refusal(message, self._file, "Compress and send it again.") from error
        buffer[: len(data)] = data
        self._count += len(data)
        self._check_size()
        return len(data)

    def _check_size(self) -> None:
        if self._count > self._max_bytes:
            limit = f"the content is larger than {self._max_bytes:,} bytes."
            raise refusal(limit, self._file, "Split the table into several data sets.")
        if self._compressed and self._count > GRACE_BYTES and self._count > RATIO_MAX * self._raw.tell():
            message = f"the {self._format} file grows to more than {RATIO_MAX} times its size."
            raise refusal(message, self._file, "Send the table uncompressed if it really repeats itself so much.")
