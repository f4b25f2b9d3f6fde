"""Which files of a repository are the rows of a data set: as its card says, or by the hub's rules for names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from eigenwerk.errors import EigenwerkError
from eigenwerk.hub.card import TRAIN, Config
from eigenwerk.hub.hub_dataset import HubFile
from jobspecs.tables import BESIDE_ROWS, COMPRESSIONS

Splits = dict[str, tuple[HubFile, ...]]

#: What the platform reads of what a hub has; if a set has two kinds equally often, the first of them.
_KINDS = {
    **{".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv"},
    **{".txt": "txt", ".xlsx": "xlsx", ".ods": "ods", ".conll": "conll", ".conllu": "conll"},
}
#: Data that nothing here reads.
_UNREAD = (".arrow", ".zst", ".bz2", ".lz4", ".zip", ".tar", ".tgz", ".tar.gz", ".feather", ".h5", ".lance", ".sqlite")
_SHARDED = re.compile(r"data/(?P<split>[^/]+)-\d{5}-of-\d{5}[^/]*\.[^/]*")
_KEYWORDS = {
    TRAIN: ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_WORDS = {
    split: re.compile(rf"(.*[-._ 0-9])?({'|'.join(words)})([-._ 0-9].*)?", re.DOTALL)
    for split, words in _KEYWORDS.items()
}
_NAMED_MAX = 5
_SIGN = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])")
#: Patterns of a part, and characters of one, which somebody may have written to keep a client busy.
_GLOBS_MAX = 1000
_GLOB_CHARS_MAX = 1000


def kind_of(path: str) -> str | None:
    """`parquet`, `csv` and so on; None for what is no table, or none that is read."""
    name = path.rpartition("/")[2].lower()
    if name in BESIDE_ROWS or name.startswith("."):
        return None
    for ending in COMPRESSIONS:
        name = name.removesuffix(f".{ending}")
    return _KINDS.get(PurePosixPath(name).suffix)


def chosen(files: Sequence[HubFile], config: Config) -> tuple[Splits, list[str]]:
    """The files of each part, and what was left out, in words. Raises EigenwerkError when there are none."""
    notices: list[str] = []
    if config.patterns is not None:
        splits = {
            split: _matching(files, [_join(config.folder, pattern) for pattern in patterns])
            for split, patterns in config.patterns.items()
        }
        for split, found in splits.items():
            if not found:
                globs = ", ".join(config.patterns[split])
                raise EigenwerkError(f"The card says that {split} is {globs}, and the repository has no such file.")
    else:
        inside = [file for file in files if PurePosixPath(file.path).is_relative_to(config.folder or ".")]
        inside = [file for file in inside if kind_of(file.path) and _is_shown(file.path)]
        splits = by_names(inside, config.folder)
        taken = {file for found in splits.values() for file in found}
        if beside := [file.path for file in inside if file not in taken]:
            notices.append(f"left out, because their names tell no split as others' do: {_named(beside)}")
    splits, left_out = _of_one_kind(splits, _named(file.path for file in files if file.path.lower().endswith(_UNREAD)))
    return splits, [*notices, *left_out]


def by_names(files: Sequence[HubFile], folder: str = "") -> Splits:
    """The hub's rules: shards in `data/`, then names of folders, then names of files; else all of it is `train`."""
    tables = [file for file in files if kind_of(file.path)]
    within = {file: PurePosixPath(file.path).relative_to(folder or ".") for file in tables}
    sharded: dict[str, list[HubFile]] = {}
    for file in tables:
        shard = _SHARDED.fullmatch(within[file].as_posix())
        if shard is not None:
            sharded.setdefault(shard["split"], []).append(file)
    if sharded:
        return _ordered(sharded)
    for names in (slice(-2, None, -1), slice(-1, None)):  # folders from the inside out, then the file
        named: dict[str, list[HubFile]] = {}
        for file in tables:
            split = next((split for part in within[file].parts[names] if (split := _split_in(part))), None)
            if split is not None:
                named.setdefault(split, []).append(file)
        if named:
            return _ordered(named)
    return {TRAIN: tuple(tables)} if tables else {}


def _split_in(part: str) -> str | None:
    return next((split for split, words in _WORDS.items() if words.fullmatch(part)), None)


def _ordered(splits: Mapping[str, list[HubFile]]) -> Splits:
    """train, validation and test first."""
    first = [split for split in _KEYWORDS if split in splits]
    return {split: tuple(splits[split]) for split in [*first, *sorted(set(splits) - set(first))]}


def _of_one_kind(splits: Splits, unread: str) -> tuple[Splits, list[str]]:
    """Only the kind of file that there is most of: a licence in `.txt` beside tables is no row."""
    counted = Counter(kind for files in splits.values() for file in files if (kind := kind_of(file.path)))
    if not counted:
        what = f"Its data is in formats that are not read here: {unread}. " if unread else ""
        raise EigenwerkError(
            f"The repository has no files with rows in Parquet, CSV, TSV, JSON Lines, JSON or text. {what}"
            "Pull the hub's conversion if there is one, hub:org/name@refs/convert/parquet, or convert and push it."
        )
    order = list(dict.fromkeys(_KINDS.values()))
    most = max(counted, key=lambda kind: (counted[kind], -order.index(kind)))
    kept = {split: tuple(file for file in files if kind_of(file.path) == most) for split, files in splits.items()}
    gone = [file.path for split, files in splits.items() for file in files if file not in kept[split]]
    notices = [f"left out, because most files are {most}: {_named(gone)}"] if gone else []
    return {split: files for split, files in kept.items() if files}, notices


def _matching(files: Sequence[HubFile], patterns: Sequence[str]) -> tuple[HubFile, ...]:
    """Files in the order of the patterns, each once. Raises EigenwerkError for what is no pattern, or too many."""
    by_path = {file.path: file for file in files}
    globs = [pattern for pattern in patterns if _SIGN.search(pattern)]
    if len(globs) > _GLOBS_MAX or any(len(pattern) > _GLOB_CHARS_MAX for pattern in globs):
        raise EigenwerkError(
            f"The card names the files of a part by more than {_GLOBS_MAX} patterns, or by one of more than "
            f"{_GLOB_CHARS_MAX} characters. Download those that you mean, and push them: eigenwerk datasets push FILE"
        )
    found: dict[HubFile, None] = {}
    for pattern in patterns:
        if pattern in by_path:
            found[by_path[pattern]] = None
        if not _SIGN.search(pattern):
            continue
        signs = _signs(pattern)
        hidden = any(part.startswith((".", "__")) for part in PurePosixPath(pattern).parts)
        for file in files:
            if (hidden or _is_shown(file.path)) and _fits(file.path, signs):
                found[file] = None
    return tuple(found)


def _signs(pattern: str) -> list[str | re.Pattern[str]]:
    """The pattern in pieces: `**/`, `**`, `*`, `?`, texts, and sets of characters compiled."""
    try:
        return [_set_of(piece[1:-1]) if piece.startswith("[") else piece for piece in _SIGN.split(pattern) if piece]
    except re.error as error:
        raise EigenwerkError(f"The card names files by {pattern!r}, which is no pattern: {error}.") from error


def _set_of(characters: str) -> re.Pattern[str]:
    among = characters.removeprefix("!").replace("[", "\\[")
    return re.compile(f"[{'^' if characters.startswith('!') else ''}{among}]", re.DOTALL)


def _fits(path: str, signs: Sequence[str | re.Pattern[str]]) -> bool:
    """Whether the pattern is the whole path. `*` stays within a folder, `**` does not.

    All places that can be reached go on together: a regular expression tries them one by one, and took 62 s for
    `*a*a*a*a*ab` and a name of 200 letters.
    """
    reached = {0}
    for sign in signs:
        if isinstance(sign, re.Pattern):
            reached = {at + 1 for at in reached if sign.match(path, at)}
        elif sign == "?":
            reached = {at + 1 for at in reached if path[at : at + 1] not in ("", "/")}
        elif sign == "*":
            reached = _to_ends(path, reached)
        elif sign == "**":
            reached = set(range(min(reached), len(path) + 1))
        elif sign == "**/":
            first = min((at for at in reached if path[at : at + 1] != "/"), default=len(path))
            reached |= {at + 1 for at in range(first, len(path)) if path[at] == "/"}
        else:
            reached = {at + len(sign) for at in reached if path.startswith(sign, at)}
        if not reached:
            return False
    return len(path) in reached


def _to_ends(path: str, reached: set[int]) -> set[int]:
    """The places from each of these on, as far as its folder or name goes."""
    found: set[int] = set()
    for at in sorted(reached):
        if at not in found:
            end = path.find("/", at)
            found.update(range(at, (len(path) if end < 0 else end) + 1))
    return found


def _join(folder: str, pattern: str) -> str:
    return PurePosixPath(folder, pattern).as_posix()


def _is_shown(path: str) -> bool:
    return not any(part.startswith((".", "__")) for part in PurePosixPath(path).parts)


def _named(paths: Iterable[str]) -> str:
    names = list(paths)
    more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
    return ", ".join(names[:_NAMED_MAX]) + more
