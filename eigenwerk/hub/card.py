"""A data set's card as far as it says where the rows are and what they mean: the YAML on top of README.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from eigenwerk.errors import EigenwerkError

DEFAULT_CONFIG = "default"
#: The part of a set that does not say which.
TRAIN = "train"
_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_LICENSE_CHARS_MAX = 200
#: Characters of a card, and so many for each value, when every alias is what it stands for: aliases of aliases grow
#: ninefold a line.
_EXPANDED_MAX = 4 << 20
_VALUE_CHARS = 8
#: What a card says beside which files there are, and is not about how they are read.
_NOT_READING = frozenset({"config_name", "data_files", "data_dir", "default", "description", "version", "drop_labels"})


@dataclass(frozen=True)
class Config:
    """One of the data sets that a repository holds."""

    name: str = DEFAULT_CONFIG
    #: Part -> globs, from the folder on. None: the names of the files tell.
    patterns: Mapping[str, tuple[str, ...]] | None = None
    #: Where its files lie; empty for the whole repository.
    folder: str = ""
    #: The owner says that it is the one to take.
    default: bool = False
    #: Other things that the card says of it, which are about reading.
    reading: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    license: str | None = None
    configs: tuple[Config, ...] = ()
    #: Config -> column -> names of its classes.
    class_names: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)


def read_card(text: str) -> tuple[Card, list[str]]:
    """The card, and in words what of it can't be read. Raises EigenwerkError for files named in unknown ways."""
    found = _FRONT_MATTER.match(text)
    try:
        # Scalars stay texts: a config may be called `no`, a class `1`.
        head = yaml.load(found[1], Loader=yaml.BaseLoader) if found else None  # noqa: S506
    except (yaml.YAMLError, RecursionError):
        return Card(), ["the YAML of the card can't be read; the names of the files tell the parts"]
    if not _is_bounded(head):
        return Card(), ["the YAML of the card is not read: it grows when its aliases are what they stand for"]
    if not isinstance(head, dict):
        return Card(), []
    configs = tuple(_config(item) for item in _items(head.get("configs")))
    infos = {str(item.get("config_name") or DEFAULT_CONFIG): item for item in _items(head.get("dataset_info"))}
    card = Card(
        license=_license(head),
        configs=configs,
        class_names={name: _class_names(item) for name, item in infos.items()},
    )
    return card, []


def _license(head: dict[str, Any]) -> str | None:
    """As one line; one of the owner's own by the name that it has."""
    said = head.get("license")
    if said == "other" and isinstance(head.get("license_name"), str):
        said = head["license_name"] or said
    names = [name for name in (said if isinstance(said, list) else [said]) if isinstance(name, str)]
    return one_line(", ".join(names))[:_LICENSE_CHARS_MAX].rstrip() or None


def one_line(text: str) -> str:
    """Without characters that nobody sees, or that a terminal obeys."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _is_bounded(head: Any) -> bool:
    """Whether walking through it, or printing it, ends soon; a value may hold itself."""
    waiting, walked = [head], 0
    while waiting and walked + len(waiting) * _VALUE_CHARS <= _EXPANDED_MAX:
        value = waiting.pop()
        walked += _VALUE_CHARS + (len(value) if isinstance(value, str) else 0)
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
    return not waiting


def _items(value: Any) -> list[dict[str, Any]]:
    """One or several mappings as a list."""
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]


def _config(item: dict[str, Any]) -> Config:
    name = str(item.get("config_name") or DEFAULT_CONFIG)
    files = item.get("data_files")
    return Config(
        name=name,
        patterns=None if files is None else _patterns(name, files),
        folder=str(item.get("data_dir") or "").strip("/"),
        default=item.get("default") == "true",
        reading={key: value for key, value in item.items() if key not in _NOT_READING},
    )


def _patterns(config: str, files: Any) -> dict[str, tuple[str, ...]]:
    """The ways in which cards write it: a glob, globs, part -> globs, or a list of `split` and `path`."""
    if isinstance(files, list) and all(isinstance(item, dict) and {"split", "path"} <= set(item) for item in files):
        files = {str(item["split"]): item["path"] for item in files}
    elif not isinstance(files, dict):
        files = {TRAIN: files}
    found = {str(split): (path,) if isinstance(path, str) else tuple(path) for split, path in files.items()}
    paths = [path for paths in found.values() for path in paths]
    if not paths or not all(isinstance(path, str) for path in paths):
        raise EigenwerkError(f"The data set's card says of the configuration {config} no files that can be understood.")
    if any("://" in path for path in paths):
        raise EigenwerkError(
            f"The configuration {config} takes files from outside the repository, which are not fetched. "
            "Download them, and push them: eigenwerk datasets push FILE"
        )
    return found


def _class_names(info: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Column -> names, of those whose values are classes."""
    found = {}
    for feature in _items(info.get("features")):
        # Of lists the card says what they hold: `sequence: {class_label: …}`.
        kinds = [feature[key] for key in ("dtype", "sequence", "list") if isinstance(feature.get(key), dict)]
        label = next((kind["class_label"] for kind in kinds if "class_label" in kind), None)
        names = label.get("names") if isinstance(label, dict) else None
        if isinstance(names, dict) and all(str(key).isdecimal() for key in names):
            names = [names[key] for key in sorted(names, key=int)]
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            found[str(feature.get("name"))] = tuple(names)
    return found
