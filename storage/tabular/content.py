"""The bytes of a file, decompressed if need be: bounded in size and in how far they may grow."""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Protocol

from jobspecs.tables import Compression
from storage.tabular.formats import refusal
from storage.tabular.stored import HeldFile, Stored

#: A file may grow by this factor when it is read; judged only after GRACE_BYTES, since short texts compress oddly.
#: Tables of labels and texts grow by 3 to 50; deflate can reach 1,032 and xz 7,000.
RATIO_MAX = 200
GRACE_BYTES = 10 * 1024 * 1024
#: Memory that decompressing xz may take, in bytes: what its strongest preset needs, four times over.
XZ_MEMORY_BYTES_MAX = 256 * 1024 * 1024
BYTES_REMEDY = (
    "Split the table into several data sets; who runs the platform can allow more: EIGENWERK_TABLE_BYTES_MAX."
)
_BUFFER_BYTES = 256 * 1024
#: Compressed bytes that are given to a decompressor at once. The factor is reckoned with what it was given: bytes read
#: ahead must not hide how far the others grew. 128 KiB did, for files of up to 5 MB.
_PIECE_BYTES = 4096


@contextmanager
def open_content(path: Stored, file: str, *, compression: Compression | None, max_bytes: int) -> Iterator[IO[bytes]]:
    """The content as a stream.

    Reading raises InvalidInput for a damaged or exploding file and beyond `max_bytes` of (decompressed) content.
    """
    with (
        path.open("rb") as raw,
        io.BufferedReader(_Bounded(raw, path, file, compression, max_bytes), _BUFFER_BYTES) as stream,
    ):
        yield stream


def check_content(path: Stored, file: str, compression: Compression, max_bytes: int) -> None:
    """Decompresses it all and keeps nothing. Raises InvalidInput as reading it would, before any row is parsed.

    10 MiB of rows of four bytes, of a file that goes on to 200 MB, took 18 s to parse until they were refused; to
    decompress them takes 0.05 s.
    """
    with open_content(path, file, compression=compression, max_bytes=max_bytes) as stream:
        while stream.read(_BUFFER_BYTES):
            pass


def check_growth(path: Stored, content_bytes: int, stored_bytes: int, what: str, file: str) -> None:
    """Raises InvalidInput when `stored_bytes` became so many `content_bytes` that they are no table of anybody's.

    The files of a tar are judged together too: a thousand of them would have 10 GB of grace.
    """
    remedy = "Send the table as plain text if it really repeats itself so much."
    if _grows_too_far(content_bytes, stored_bytes):
        raise refusal(f"the {what} file grows to more than {RATIO_MAX} times its size.", file, remedy)
    if isinstance(path, HeldFile):
        path.grown.note(path.name, content_bytes)
        if _grows_too_far(path.grown.bytes, path.path.stat().st_size):
            message = f"the files up to this one grow to more than {RATIO_MAX} times the size of them all."
            raise refusal(message, file, remedy)


def _grows_too_far(content_bytes: int, stored_bytes: int) -> bool:
    return content_bytes > GRACE_BYTES and content_bytes > RATIO_MAX * stored_bytes


class _Decompressor(Protocol):
    """What lzma.LZMADecompressor has."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Gzip:
    """One member of a gzip file; its header and checksum are verified."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES_MAX)


_DECOMPRESSORS: dict[Compression, Callable[[], _Decompressor]] = {"gz": _Gzip, "xz": _xz}


class _Expanded:
    """The content of a compressed file, which may be several behind one another, as `cat a.gz b.gz` makes them."""

    def __init__(self, raw: IO[bytes], make: Callable[[], _Decompressor]) -> None:
        self._raw = raw
        self._make = make
        self._stream = make()
        #: Compressed bytes behind the end of a stream.
        self._rest = b""
        #: Whether this stream has begun, and whether it is the first.
        self._begun = False
        self._first = True
        #: Compressed bytes given to the decompressor.
        self.consumed_bytes = 0

    def read(self, size: int, /) -> bytes:
        """Raises EOFError when the file ends within a stream, zlib.error and lzma.LZMAError when it is damaged."""
        while True:
            if self._stream.eof:
                self._rest, self._stream = self._stream.unused_data, self._make()
                self._begun = self._first = False
            given, ended = self._next_input()
            if ended and not self._begun:
                return b""
            self._begun = self._begun or bool(given)
            # zlib may hold content back though it has taken all its input.
            data = self._stream.decompress(given, size) if self._begun else b""
            if data:
                return data
            if ended and not self._stream.eof:
                raise EOFError

    def _next_input(self) -> tuple[bytes, bool]:
        """What the decompressor is to take, nothing if it has enough; and whether the file is at its end."""
        given, self._rest = self._rest, b""
        ended = False
        if not given and self._stream.needs_input:
            given = self._raw.read(_PIECE_BYTES)
            ended = not given
            self.consumed_bytes += len(given)
        # Zeros may fill the room between one stream and the next.
        return given if self._begun or self._first else given.lstrip(b"\0"), ended


class _Bounded(io.RawIOBase):
    """The content of a file, decompressed if need be, which stops at the limits with an error for people."""

    def __init__(
        self, raw: IO[bytes], path: Stored, file: str, compression: Compression | None, max_bytes: int
    ) -> None:
        self._raw = raw
        self._path = path
        self._expanded = _Expanded(raw, _DECOMPRESSORS[compression]) if compression else None
        self._format = {"gz": "gzip", "xz": "xz", None: "plain"}[compression]
        self._file = file
        self._max_bytes = max_bytes
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            data = (self._expanded or self._raw).read(len(buffer))
        except EOFError as error:
            remedy = "Send it again; the upload or the copy was cut off."
            raise refusal(f"the {self._format} file ends too early.", self._file, remedy) from error
        except (zlib.error, lzma.LZMAError) as error:
            message = f"the {self._format} file is damaged ({error})."
            raise refusal(message, self._file, "Compress and send it again.") from error
        buffer[: len(data)] = data
        self._count += len(data)
        self._check_size()
        return len(data)

    def _check_size(self) -> None:
        if self._count > self._max_bytes:
            limit = f"the content is larger than {self._max_bytes:,} bytes."
            raise refusal(limit, self._file, BYTES_REMEDY)
        if self._expanded is not None:
            check_growth(self._path, self._count, self._expanded.consumed_bytes, self._format, self._file)
