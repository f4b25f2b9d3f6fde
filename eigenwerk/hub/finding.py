"""`hub:org/name@revision` -> what would be fetched: the commit, the configuration, the files of each part."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from eigenwerk.errors import EigenwerkError
from eigenwerk.hub.card import DEFAULT_CONFIG, Card, Config, one_line, read_card
from eigenwerk.hub.choosing import Splits, by_names, chosen, kind_of
from eigenwerk.hub.hub_dataset import HubDataset
from eigenwerk.hub.repository import NoSuchRevision, Repository, fetch, open_repository

#: Where a hub keeps every public set as Parquet: `config/split/0000.parquet`. `~parquet` is short for it.
_CONVERTED = "refs/convert/parquet"
_SHORT = {"~parquet": _CONVERTED}
_CARD = "README.md"
#: YAML of 2 MB takes seconds to read.
_CARD_BYTES_MAX = 2 << 20
_REFERENCE = re.compile(r"(?!.*\.\.)hub:(?P<name>(?:[\w.-]+/)?[\w.-]+)(?:@(?P<revision>[\w./~-]+))?", re.ASCII)
#: What a card calls it, and what `push_dataset` does.
_READING = {"sep": "delimiter", "delimiter": "delimiter", "quotechar": "quote", "encoding": "encoding"}
_NAMES = ("names", "column_names")
_CONFIGS_NAMED_MAX = 30
#: With the repository and the commit it is 500 at most, which is what the platform keeps.
_CONFIG_CHARS_MAX = 200
#: What is named of things that are not understood, and characters of each.
_UNREAD_NAMED_MAX = 5
_UNREAD_CHARS_MAX = 80


def find_hub_dataset(reference: str, *, config: str | None = None, splits: Sequence[str] = ()) -> HubDataset:
    """Asks the hub what `hub:org/name` or `hub:org/name@revision` holds; nothing but its card is fetched.

    `config` says which of several data sets of the repository is meant, `splits` which parts of it (all if empty). Of
    a set that only a script of its own could load, the hub's conversion to Parquet is taken: foreign code never runs.
    Raises EigenwerkError: with the configurations when several could be meant, with the parts when one is missing.
    """
    name, revision = _parsed(reference)
    repository = open_repository(name, revision)
    card, notices = _card_of(repository)
    script = _script(repository)
    if script and not card.configs and not _has_parquet(repository):
        if revision is not None:
            raise EigenwerkError(_refusal(repository.name, script))
        repository, revision = _converted(repository, script), _CONVERTED
        notices += [f"{script} is a program and is not run; the hub's conversion to Parquet is taken ({_CONVERTED})"]
    elif script:
        notices += [f"{script} is a program and is not run; the files are taken as they are"]
    offered = _offered(repository, card, revision)
    wanted, said_of_config = _one_of(offered, config, repository.name)
    files, left_out = _files(repository, wanted, revision)
    reading, not_understood = _reading(wanted.reading)
    named, unnamed = _kept(wanted) if len(offered) > 1 else (None, [])
    return HubDataset(
        repository=repository.name,
        commit=repository.commit,
        config=named,
        license=card.license,
        splits=_parts(files, splits, repository.name),
        class_names=card.class_names.get(wanted.name, {}),
        reading=reading,
        notices=(*notices, *said_of_config, *unnamed, *left_out, *not_understood),
    )


def is_hub_reference(text: str) -> bool:
    """Whether it looks like `hub:org/name` or `hub:org/name@revision`."""
    return _REFERENCE.fullmatch(text) is not None


def _parsed(reference: str) -> tuple[str, str | None]:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise EigenwerkError(f"{reference!r} is no data set of a hub: write hub:org/name or hub:org/name@revision.")
    revision = match["revision"]
    return match["name"], _SHORT.get(revision, revision)


def _card_of(repository: Repository) -> tuple[Card, list[str]]:
    file = repository.file(_CARD)
    if file is None:
        return Card(), []
    if file.bytes > _CARD_BYTES_MAX:
        return Card(), [f"the card is not read: it has {file.bytes:,} bytes"]
    path = fetch(repository.name, repository.commit, file)
    return read_card(path.read_text(encoding="utf-8", errors="replace"))


def _script(repository: Repository) -> str | None:
    """The program that loads the data set, for which the hub would run it."""
    name = f"{repository.name.rpartition('/')[2]}.py"
    return name if repository.file(name) else None


def _has_parquet(repository: Repository) -> bool:
    return any(kind_of(file.path) == "parquet" for file in repository.files)


def _converted(repository: Repository, script: str) -> Repository:
    """The same data set as the hub has converted it."""
    try:
        return open_repository(repository.name, _CONVERTED)
    except NoSuchRevision as error:
        raise EigenwerkError(_refusal(repository.name, script)) from error


def _refusal(name: str, script: str) -> str:
    return (
        f"hub:{name} is loaded by a program, {script}, which is foreign code and not run here. Pull the hub's "
        f"conversion if it has one, hub:{name}@{_CONVERTED}; or run it where you trust it, and push what it gives."
    )


def _offered(repository: Repository, card: Card, revision: str | None) -> list[Config]:
    """The data sets that the repository holds."""
    if card.configs:
        return list(card.configs)
    if revision != _CONVERTED:
        return [Config()]
    folders = dict.fromkeys(file.path.split("/")[0] for file in repository.files if kind_of(file.path) == "parquet")
    return [Config(name=folder, folder=folder) for folder in folders] or [Config()]


def _one_of(offered: Sequence[Config], wanted: str | None, repository: str) -> tuple[Config, list[str]]:
    names = [config.name for config in offered]
    known = ", ".join(map(_shortened, names[:_CONFIGS_NAMED_MAX])) + (" …" if len(names) > _CONFIGS_NAMED_MAX else "")
    if wanted is not None:
        for config in offered:
            if config.name == wanted:
                return config, []
        raise EigenwerkError(f"hub:{repository} has no configuration {wanted}. It has: {known}.")
    marked = [config for config in offered if config.default] or [
        config for config in offered if config.name == DEFAULT_CONFIG
    ]
    if len(offered) > 1 and not marked:
        raise EigenwerkError(f"hub:{repository} holds {len(offered)} data sets. Choose one with --config: {known}.")
    if len(offered) > 1:
        return marked[0], [f"of {len(offered)} configurations its default {marked[0].name} is taken; there are {known}"]
    return offered[0], []


def _kept(config: Config) -> tuple[str | None, list[str]]:
    """What the configuration is called where the rows came from; the platform refuses what can't be printed."""
    if config.name.isprintable() and len(config.name) <= _CONFIG_CHARS_MAX:
        return config.name, []
    return None, [f"the configuration {_shortened(config.name)} is not kept: its name is no short line"]


def _files(repository: Repository, config: Config, revision: str | None) -> tuple[Splits, list[str]]:
    if revision != _CONVERTED or config.patterns is not None:
        return chosen(repository.files, config)
    splits: dict[str, list[Any]] = {}
    partial: list[str] = []
    for file in repository.files:
        parts = PurePosixPath(file.path).parts
        if len(parts) == 3 and parts[0] == config.name and kind_of(file.path) == "parquet":
            split = parts[1].removeprefix("partial-")
            partial += [split] if split != parts[1] and split not in partial else []
            splits.setdefault(split, []).append(file)
    notices = [f"the hub has converted only a part of {', '.join(partial)}"] if partial else []
    if splits:
        return {split: tuple(files) for split, files in splits.items()}, notices
    # Conversions of earlier years: config/name-split-00000-of-00001.parquet
    inside = [file for file in repository.files if file.path.startswith(f"{config.folder}/")]
    return by_names(inside, config.folder) or chosen(repository.files, config)[0], notices


def _parts(files: Splits, wanted: Sequence[str], repository: str) -> Splits:
    missing = [split for split in wanted if split not in files]
    if missing:
        raise EigenwerkError(f"hub:{repository} has no split {', '.join(missing)}. It has: {', '.join(files)}.")
    found = {split: files[split] for split in (dict.fromkeys(wanted) if wanted else files)}
    for split in found if len(found) > 1 else ():
        if "/" in split or split in (".", "..") or not split.isprintable():
            raise EigenwerkError(
                f"The card calls a part of hub:{repository} {_shortened(split)!r}, which the column split can't hold. "
                f"Take the parts one by one, each as a data set of its own: --split {_shortened(split)} --name NAME"
            )
    return found


def _reading(said: Mapping[str, Any]) -> tuple[dict[str, str | list[str]], list[str]]:
    """What the card says about reading as `push_dataset` takes it; and what it says that is not understood."""
    reading: dict[str, str | list[str]] = {}
    unread = []
    for key, value in said.items():
        if key in _READING and isinstance(value, str):
            reading[_READING[key]] = value
        elif key in _NAMES and isinstance(value, list):
            reading["columns"] = [str(name) for name in value]
        elif key == "field" and isinstance(value, str):
            reading["layout"] = f"below:{value}"
        elif key == "quoting" and value == "3":
            reading["quote"] = "none"
        else:
            unread.append(_shortened(f"{key}: {value}" if isinstance(value, str) else key))
    shown = ", ".join(unread[:_UNREAD_NAMED_MAX]) + (" …" if len(unread) > _UNREAD_NAMED_MAX else "")
    return reading, [f"what the card says about reading is not understood: {shown}"] if unread else []


def _shortened(text: str) -> str:
    plain = one_line(text)
    return plain if len(plain) <= _UNREAD_CHARS_MAX else f"{plain[:_UNREAD_CHARS_MAX]}…"
