"""Which files may be pushed, how clients shall send them, and what is done with those that are no part of a version."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal

from api.hub.repositories import Kind
from api.registry.imported_files import check_import_path
from jobspecs.manifest import check_relative_path
from jobspecs.problems import InvalidInput, Problem
from storage.tabular import detect_format

#: What lies beside models and data sets, and libraries push along: left out, and clients are told so.
_LEFT_OUT = (".gitattributes", ".gitignore", ".DS_Store", "training_args.bin")
_EVENTS = re.compile(r"(?:^|/)events\.out\.tfevents\.")
#: In a commit's own body; larger ones, and those that no text editor opens, by their sum.
SMALL_BYTES_MAX = 64 * 1024
_TEXTS = (".json", ".txt", ".md", ".jinja")
_DESCRIBING = (".md", "dataset_infos.json", "LICENSE", "LICENSE.txt")
#: Words in a file's name, or its folder's, that tell its part of a data set, as the library `datasets` reads them.
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
}
_SPLIT = re.compile(rf"(?:^|[-._ /])({'|'.join(_SPLITS)})(?=[-._ /0-9]|$)")


def is_left_out(path: str) -> bool:
    return PurePosixPath(path).name in _LEFT_OUT or _EVENTS.search(path) is not None


def check_path(kind: Kind, path: str) -> None:
    """Raises InvalidInput for what no version can have."""
    if kind == "models":
        check_import_path(path)
        return
    try:
        check_relative_path(path)
    except ValueError as error:
        raise InvalidInput([Problem(file=path, message=f"{error}.", remedy="Send a path such as data.csv.")]) from error
    if not describes(path):
        detect_format(PurePosixPath(path).name)


def describes(path: str) -> bool:
    """Whether a data set's file is about it, and holds no rows."""
    return PurePosixPath(path).name.endswith(_DESCRIBING)


def way_of(kind: Kind, path: str, size_bytes: int) -> Literal["regular", "lfs"]:
    text = path.endswith(_TEXTS) if kind == "models" else describes(path)
    return "regular" if text and size_bytes <= SMALL_BYTES_MAX else "lfs"


def split_of(path: str) -> str:
    """The part of a data set that a file belongs to: train where nothing tells."""
    for part in reversed(PurePosixPath(path).parts):
        found = _SPLIT.search(part)
        if found is not None:
            return _SPLITS[found[1]]
    return "train"
