"""What is read: a file, or one of the files that a tar holds, which is read where it lies."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Literal, Protocol

from storage.tabular.formats import refusal

#: Files of one data set.
FILES_MAX = 1000
_BUFFER_BYTES = 256 * 1024
#: Of a tar: each header takes one, and the end is at least one of zeros.
_BLOCK_BYTES = 512
_REMEDY = "Let push make it: eigenwerk datasets push A.csv B.csv --name NAME"


class _Sized(Protocol):
    @property
    def st_size(self) -> int: ...


class Stored(Protocol):
    """What a Path has of a file."""

    @property
    def name(self) -> str: ...
    def open(self, mode: Literal["rb"], /) -> IO[bytes]: ...
    def stat(self) -> _Sized: ...


class Grown:
    """Bytes of content of the files of a tar, as far as they were read: each may grow a little, all together not."""

    def __init__(self) -> None:
        self._of_file: dict[str, int] = {}
        self.bytes = 0

    def note(self, name: str, content_bytes: int) -> None:
        """A file that is read again counts once."""
        more = content_bytes - self._of_file.get(name, 0)
        if more > 0:
            self._of_file[name] = content_bytes
            self.bytes += more


@dataclass(frozen=True)
class HeldFile:
    """A file that lies within another one. `split`: the part that it belongs to, such as `train`."""

    path: Path
    name: str
    split: str | None
    offset: int
    st_size: int
    #: Of all files of the tar.
    grown: Grown = field(default_factory=Grown, compare=False)

    def open(self, mode: Literal["rb"], /) -> IO[bytes]:
        raw = self.path.open(mode)
        return io.BufferedReader(_Slice(raw, self.offset, self.st_size), _BUFFER_BYTES)

    def stat(self) -> HeldFile:
        return self


def held_files(path: Path, file: str) -> Iterator[HeldFile]:
    """The files of a tar: `a.csv`, or `train/a.csv` for one of a split. Raises InvalidInput for anything else."""
    names: set[str] = set()
    grown = Grown()
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not member.name.isprintable():
                    message = f"the name {member.name!a} in it holds what can't be printed."
                    raise refusal(message, file, "Rename the file.")
                if not member.isreg() or member.issparse():
                    raise refusal(f"{member.name!r} in it is no plain file.", file, _REMEDY)
                place = PurePosixPath(member.name)
                if len(place.parts) > 2 or place.is_absolute() or ".." in place.parts:
                    raise refusal(f"{member.name!r} in it lies in a folder of a folder.", file, _REMEDY)
                if member.name in names:
                    raise refusal(f"{member.name!r} is in it twice.", file, _REMEDY)
                names.add(member.name)
                if len(names) > FILES_MAX:
                    raise refusal(f"it holds more than {FILES_MAX} files.", file, "Join some of them.")
                split = place.parts[0] if len(place.parts) == 2 else None
                yield HeldFile(path, member.name, split, member.offset_data, member.size, grown)
            end = archive.offset
    except tarfile.TarError as error:
        raise refusal(f"the tar file is damaged ({error}).", file, _REMEDY) from error
    _check_end(path, end, file)


def _check_end(path: Path, end: int, file: str) -> None:
    """Raises InvalidInput unless only zeros follow: tarfile ends without a word at a header that it can't read."""
    with path.open("rb") as stream:
        stream.seek(end)
        zeros = 0
        while chunk := stream.read(_BUFFER_BYTES):
            if chunk.strip(b"\0"):
                message = f"from byte {end:,} on comes what is no file: the tar is damaged, or two are joined."
                raise refusal(message, file, _REMEDY)
            zeros += len(chunk)
    if zeros < _BLOCK_BYTES:
        raise refusal("the tar file ends too early.", file, "Send it again; the upload or the copy was cut off.")


class _Slice(io.RawIOBase):
    """Bytes of a stream from `offset` on. It closes the stream."""

    def __init__(self, raw: IO[bytes], offset: int, size: int) -> None:
        self._raw = raw
        self._offset = offset
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        self._raw.seek(self._offset + self._at)
        data = self._raw.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._raw.close()
        super().close()
