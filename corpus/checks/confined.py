"""A check with a data set, a tokenizer and a template that nobody vouches for, in a process that is bounded.

The latter two are programs of a kind: a regular expression may try for ever, and so may a template.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile
from corpus.confinement.confinement import Confinement
from corpus.confinement.process import Limits
from jobspecs.data_report import DataReport
from jobspecs.kinds.base import SpecBase
from jobspecs.registry import parse_spec

_MEMORY_BYTES = 4 * 1024**3
#: What loading a tokenizer may take beside the check, in seconds of CPU.
_LOAD_S = 20
#: How much longer it may take by the clock, on a busy machine.
_PATIENCE = 2


def check_confined(
    confinement: Confinement,
    spec: SpecBase,
    file: CheckedFile,
    folder: Path | None,
    *,
    seconds: float,
    should_stop: Callable[[], bool] = lambda: False,
    held_out: CheckedFile | None = None,
    test: CheckedFile | None = None,
) -> DataReport | None:
    """As `check_data` for at most `seconds`. Raises what it and `Confinement.run` raise."""
    request = {
        # What was told: a warning may hang on whether a default was chosen.
        "spec": spec.model_dump(mode="json", exclude_unset=True),
        "file": replace(file, path=file.path.resolve()),
        "others": [replace(one, path=one.path.resolve()) if one is not None else None for one in (held_out, test)],
        "folder": folder.resolve() if folder is not None else None,
        "seconds": seconds,
    }
    cpu_s = int(seconds) + _LOAD_S
    answer = confinement.run("check", request, Limits(cpu_s, _MEMORY_BYTES, _PATIENCE * cpu_s), should_stop)
    return DataReport.model_validate(answer) if answer is not None else None


def check(
    spec: dict[str, Any], file: CheckedFile, others: list[CheckedFile | None], folder: Path | None, seconds: float
) -> DataReport | None:
    """The task; `others`: the data sets of `validation` and of `test`. Raises InvalidInput."""
    reader = Reader.load(folder)
    deadline_s = time.monotonic() + seconds
    return check_data(parse_spec(spec), file, reader, lambda: time.monotonic() > deadline_s, *others)
