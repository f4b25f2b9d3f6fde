"""References to data sets and models, as people write them.

`name`, `name@3`, `name@alias`, `owner/name@3` mean something registered here;
`hub:org/name` and `hub:org/name@revision` mean a repository of a model hub. `builtin:name` is what the platform brings
itself, and names no version: only a job kind that says so takes it.
At submit a reference is *frozen*: it becomes a digest, and a later version or a moved alias changes nothing.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

#: One path segment of a name. No slash, no leading dot, at most 128 characters: it is safe in a URL and in a key.
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
#: `name`, or `owner/name`.
OWNED_NAME_PATTERN = rf"(?:{NAME_PATTERN}/)?{NAME_PATTERN}"
_NAME = re.compile(NAME_PATTERN)
#: What the platform brings itself, as `model` of a job kind.
_BUILTIN = "builtin:"
TFIDF_SVM = f"{_BUILTIN}tfidf-svm"
BUILTINS = {"train-classifier": (TFIDF_SVM,)}
#: What means a version without being an alias, behind an @ or to clients of the hub.
_RESERVED = ("latest", "main", "HEAD")
_OWNED_NAME = re.compile(OWNED_NAME_PATTERN)
_REFERENCE = re.compile(rf"(?:(?P<owner>{NAME_PATTERN})/)?(?P<name>{NAME_PATTERN})(?:@(?P<selector>{NAME_PATTERN}))?")


class Reference(BaseModel):
    """A parsed reference. `version` or `alias` is set, or neither (the newest version)."""

    model_config = ConfigDict(frozen=True)

    source: Literal["registry", "hub"] = "registry"
    owner: str | None = None
    name: str
    version: int | None = None
    #: An alias (registry) or a revision (hub).
    alias: str | None = None

    def __str__(self) -> str:
        prefix = "hub:" if self.source == "hub" else ""
        owner = f"{self.owner}/" if self.owner else ""
        selector = self.version if self.version is not None else self.alias
        return f"{prefix}{owner}{self.name}" + (f"@{selector}" if selector is not None else "")


def parse_reference(text: str) -> Reference:
    """Parses `text`. Raises ValueError with a message for people when it is not a reference."""
    if text.startswith(_BUILTIN):
        raise ValueError(f"{text!r} names no registered model. {_built_in()}")
    source: Literal["registry", "hub"] = "hub" if text.startswith("hub:") else "registry"
    match = _REFERENCE.fullmatch(text.removeprefix("hub:"))
    if match is None:
        raise ValueError(
            f"{text!r} is not a reference: "
            "write name, name@version, name@alias, owner/name@version or hub:org/name@revision"
        )
    selector = match["selector"]
    if source == "hub":
        if match["owner"] is None:
            raise ValueError(f"{text!r} names no organisation: write hub:org/name")
        return Reference(source=source, owner=match["owner"], name=match["name"], alias=selector)
    number = int(selector) if selector and selector.isdecimal() else None
    if number is not None and not 1 <= number < 2**31:
        raise ValueError(f"{text!r}: versions count from 1")
    return Reference(owner=match["owner"], name=match["name"], version=number, alias=None if number else selector)


def parse_owned_name(text: str) -> Reference:
    """Parses `name` or `owner/name`: what all versions have in common. Raises ValueError as `check_name` does."""
    if not _OWNED_NAME.fullmatch(text):
        return Reference(name=check_name(text))
    owner, _, name = text.rpartition("/")
    return Reference(owner=owner or None, name=name)


def check_name(text: str) -> str:
    """Returns `text` when it may name a data set, model, job or alias; raises ValueError otherwise."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a name: use letters, digits, '.', '_' and '-', at most 128, a letter or digit first"
        )
    return text


def check_alias(text: str) -> str:
    """Returns `text` when it may be an alias; raises ValueError, also for what means something already."""
    if check_name(text) in _RESERVED or text.isdecimal():
        raise ValueError(f"{text!r} has a meaning of its own: choose a word such as prod")
    return text


def _check_reference(text: str) -> str:
    parse_reference(text)
    return text


def _built_in() -> str:
    taken = "; ".join(f"{kind} takes {', '.join(names)}" for kind, names in BUILTINS.items())
    return f"Built in, as `model` of a job, are: {taken}"


def _check_classifier_base(text: str) -> str:
    return text if text in BUILTINS["train-classifier"] else _check_reference(text)


def _check_dataset_reference(text: str) -> str:
    if parse_reference(text).source == "hub":
        raise ValueError(f"{text!r}: a hub's data set is pulled first, then named: eigenwerk datasets pull {text}")
    return text


Name = Annotated[str, AfterValidator(check_name)]
AliasName = Annotated[str, AfterValidator(check_alias)]
ModelReference = Annotated[str, AfterValidator(_check_reference)]
#: A model, or a classifier that is built in.
ClassifierBase = Annotated[str, AfterValidator(_check_classifier_base)]
DatasetReference = Annotated[str, AfterValidator(_check_dataset_reference)]
