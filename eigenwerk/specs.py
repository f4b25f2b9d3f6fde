"""Job specs in files: YAML or JSON to plain data, with the line of every field so that errors can name it.

YAML is read as JSON's superset of the 1.2 core schema: `no` and `2024-01-01` are text, `2e-5` is a number. Duplicate
keys, anchors and aliases, tags, and documents that are large or deep are refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from eigenwerk.errors import EigenwerkError
from jobspecs.file_errors import why_not
from jobspecs.problems import Problem

#: A spec is a page of text. The server takes no more either.
SPEC_BYTES_MAX = 1_000_000
_DEPTH_MAX = 32

#: The core schema of YAML 1.2 (§10.3.2), in the order in which a plain scalar is tried.
_CORE_SCHEMA = (
    (re.compile(r"null|Null|NULL|~|"), lambda text: None),
    (re.compile(r"true|True|TRUE"), lambda text: True),
    (re.compile(r"false|False|FALSE"), lambda text: False),
    # Longer ones are no numbers that a spec has a use for; as floats they stay within JSON.
    (re.compile(r"[-+]?[0-9]{1,18}"), int),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
)


@dataclass(frozen=True)
class SpecFile:
    """A spec as data. `lines`: dotted field -> 1-based line."""

    path: str
    document: dict[str, Any]
    lines: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def located(self, problem: Problem) -> str:
        """The problem in one line, beginning with file and line of its field, or of the nearest field around it."""
        parts = (problem.field or "").split(".")
        for length in range(len(parts), 0, -1):
            line = self.lines.get(".".join(parts[:length]))
            if line is not None:
                return f"{self.path}:{line}: {problem}"
        return f"{self.path}: {problem}"


def read_spec(path: Path) -> SpecFile:
    """Reads YAML, or JSON when the name ends in .json. Raises EigenwerkError with file and line."""
    try:
        data = path.read_bytes() if path.stat().st_size <= SPEC_BYTES_MAX else None
    except OSError as error:
        raise EigenwerkError(f"{path} can't be read: {why_not(error)}.") from error
    if data is None:
        raise EigenwerkError(f"{path} is larger than {SPEC_BYTES_MAX:,} bytes: that is no job spec.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise EigenwerkError(f"{path}:{line}: this is not UTF-8. Save the file as UTF-8.") from error
    return parse_spec_text(text, str(path), is_json=path.suffix.lower() == ".json")


def parse_spec_text(text: str, path: str, *, is_json: bool = False) -> SpecFile:
    """The same, from text; `path` is for messages."""
    lines: dict[str, int] = {}
    try:
        document = _parse_json(text) if is_json else _parse_yaml(text, lines)
    except _Unacceptable as error:
        raise EigenwerkError(f"{path}:{error.line}: {error}" if error.line else f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise EigenwerkError(f"{path}: a job spec is a mapping of fields. Start with: kind: train-classifier")
    return SpecFile(path, document, MappingProxyType(lines))


class _Unacceptable(Exception):
    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def _parse_json(text: str) -> Any:
    def unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise _Unacceptable(f"the field {key!r} is there twice. Remove one.")
            found[key] = value
        return found

    def refuse(constant: str) -> Any:
        raise _Unacceptable(f"{constant} is not a number in JSON.")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise _Unacceptable(f"this is not JSON: {error.msg}, column {error.colno}.", error.lineno) from error
    except RecursionError as error:
        raise _Unacceptable("this is nested too deeply for a job spec.") from error


def _parse_yaml(text: str, lines: dict[str, int]) -> Any:
    depth = 0
    try:
        # Events first: an alias or a deep nest is refused before anything is built of it.
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1 if event.start_mark else None
            if getattr(event, "tag", None):
                raise _Unacceptable("tags (!) are not for job specs. Remove it.", line)
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise _Unacceptable("anchors and aliases (& and *) are not for job specs. Write the value out.", line)
            if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                depth += 1
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                depth -= 1
            if depth > _DEPTH_MAX:
                raise _Unacceptable("this is nested too deeply for a job spec.", line)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark.line + 1 if error.problem_mark else None
        raise _Unacceptable(f"this is not YAML: {error.problem or error.context}.", where) from error
    except yaml.YAMLError as error:
        raise _Unacceptable(f"this is not YAML: {' '.join(str(error).split())}.") from error
    return _build(node, "", lines) if node is not None else None


def _build(node: yaml.Node, place: str, lines: dict[str, int]) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, place, lines)
    if isinstance(node, yaml.SequenceNode):
        found = []
        for index, item in enumerate(node.value):
            below = f"{place}.{index}" if place else str(index)
            lines[below] = item.start_mark.line + 1
            found.append(_build(item, below, lines))
        return found
    return _scalar(node) if isinstance(node, yaml.ScalarNode) else None


def _mapping(node: yaml.MappingNode, place: str, lines: dict[str, int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise _Unacceptable("the name of a field is plain text.", line)
        key: str = key_node.value
        if key in found:
            raise _Unacceptable(f"the field {key!r} is there twice. Remove one.", line)
        below = f"{place}.{key}" if place else key
        lines[below] = line
        found[key] = _build(value_node, below, lines)
    return found


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    if node.style is None:
        for pattern, convert in _CORE_SCHEMA:
            if pattern.fullmatch(text):
                value = convert(text)
                # JSON has no infinity; the server says what is wrong with the text.
                return text if isinstance(value, float) and not math.isfinite(value) else value
    return text
