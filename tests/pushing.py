"""What a person does with a file, in this process: pushes it, reads the version, checks a spec against it, previews it.

The API runs the same functions in bounded processes; what they recognise is kept, and read by nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile
from corpus.conversations.examples import Example, Objective
from corpus.conversations.formats import ChatSource
from corpus.conversations.reading import read_examples
from corpus.conversations.rendering import Renderer, visible
from jobspecs.data_report import DataReport
from jobspecs.dialect import Dialect
from jobspecs.problems import InvalidInput, Problem
from jobspecs.profile import DatasetProfile
from jobspecs.registry import parse_spec
from storage.tabular import detect_format, profile_table, read_rows

#: What a spec needs beside what it is about.
SPECS: Mapping[str, Mapping[str, Any]] = {
    "train-classifier": {"text": "text", "label": "label"},
    "train-embedder": {"anchor": "question", "positive": "context"},
    "train-reranker": {"query": "query", "passage": "passage", "label": "label"},
    "finetune-llm": {},
}


@dataclass(frozen=True)
class Pushed:
    """A file as a version: its profile, and how whoever reads it later reads it."""

    file: CheckedFile
    profile: DatasetProfile

    @property
    def rows(self) -> list[dict[str, Any]]:
        return list(read_rows(self.file.path, self.file.fmt, file_name=self.file.name))

    def chats(self, objective: str = "sft", **source: Any) -> list[Example]:
        """Raises InvalidInput for the first row that can't be used."""
        told = ChatSource(**source)
        read = cast(Objective, objective)
        return list(read_examples(self.file.path, self.file.fmt, told, objective=read, file_name=self.file.name))

    def check(self, kind: str, model: Path | None = None, **spec: Any) -> DataReport:
        """What `check` says of a spec; with a `model`, as its tokenizer and template see the data."""
        about = spec if set(spec) & set(SPECS[kind]) else {**SPECS[kind], **spec}
        document = {"kind": kind, "name": "n", "model": "m", "dataset": "d", **about}
        report = check_data(parse_spec(document), self.file, Reader.load(model))
        assert report is not None
        return report


def push(path: Path, **told: Any) -> Pushed:
    """Raises InvalidInput."""
    profile = profile_table(path, detect_format(path.name, Dialect(**told)), path.name)
    kept = None if profile.dialect is None else Dialect.model_validate_json(profile.dialect.model_dump_json())
    pushed = Pushed(CheckedFile(path, detect_format(path.name, kept), path.name), profile)
    assert len(pushed.rows) == profile.rows
    return pushed


def refused(path: Path, **told: Any) -> Problem:
    """Why the file can't be pushed, which names it and says what to do."""
    with pytest.raises(InvalidInput) as error:
        push(path, **told)
    [problem] = error.value.problems
    assert problem.file == path.name
    assert problem.remedy
    return problem


def seen(examples: Sequence[Example], model: Path) -> list[str]:
    """Each example as a preview with this model shows it: what is learnt between « and »."""
    renderer = Renderer.load(model)
    return ["\n".join(map(visible, renderer.example(example).values())) for example in examples]
