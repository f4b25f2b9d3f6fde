"""References of a pipeline's steps to what earlier ones make: `$train.model`, `$score.dataset`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from jobspecs.pipelines.conditions import SOURCE_PATTERN

Product = Literal["model", "dataset"]
_REFERENCE = re.compile(rf"\$(?P<step>{SOURCE_PATTERN})\.(?P<product>[\w./-]+)")


class StepReference(NamedTuple):
    """What step `step` makes. `product` is as it is written, and may be none that there is."""

    step: str
    product: str

    def __str__(self) -> str:
        return f"${self.step}.{self.product}"


def references_in(document: Any, place: str = "") -> Iterator[tuple[str, StepReference]]:
    """Each text of a spec that is a reference to a step, with its field."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield from references_in(value, f"{place}.{name}" if place else str(name))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from references_in(value, f"{place}.{index}")
    elif isinstance(document, str) and (found := _REFERENCE.fullmatch(document)):
        yield place, StepReference(found["step"], found["product"])


def substituted(document: Any, meaning: Callable[[StepReference], str]) -> Any:
    """The same document with what each of its references to a step means."""
    if isinstance(document, dict):
        return {name: substituted(value, meaning) for name, value in document.items()}
    if isinstance(document, list):
        return [substituted(value, meaning) for value in document]
    if isinstance(document, str) and (found := _REFERENCE.fullmatch(document)):
        return meaning(StepReference(found["step"], found["product"]))
    return document
