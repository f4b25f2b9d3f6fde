"""A check with a tokenizer or template that nobody vouches for, in a process that may neither run long nor grow large.

Both are programs of a kind: a regular expression may try for ever, and so may a template. In the API they run here
alone. `python -m corpus.checks.confined` reads one JSON document from stdin and writes one to stdout.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile
from jobspecs.data_report import DataReport
from jobspecs.kinds.base import SpecBase
from jobspecs.problems import InvalidInput, Problem
from jobspecs.registry import parse_spec
from storage.tabular.formats import TableFormat

_MEMORY_BYTES = 4 * 1024**3
#: What starting the process and loading a tokenizer may take beside the check, in seconds by the clock.
_START_S = 20.0


class CheckOverran(Exception):
    """The check took more time or memory than it was given."""


def check_confined(spec: SpecBase, file: CheckedFile, folder: Path, *, seconds: float) -> DataReport | None:
    """As `check_data` for at most `seconds`. Raises CheckOverran and whatever InvalidInput `check_data` raises."""
    request = {
        # What was told: a warning may hang on whether a default was chosen.
        "spec": spec.model_dump(mode="json", exclude_unset=True),
        "path": str(file.path.resolve()),
        "format": [file.fmt.kind, file.fmt.compression, file.fmt.delimiter, file.fmt.header],
        "name": file.name,
        "folder": str(folder.resolve()),
        "seconds": seconds,
    }
    # Nothing else of the environment: it holds the platform's secrets. Each thread of a large machine would reserve
    # 64 MiB of the address space that is bounded.
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TOKENIZERS_PARALLELISM": "false",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "corpus.checks.confined"],
            input=json.dumps(request).encode(),
            capture_output=True,
            env=environment,
            timeout=seconds + _START_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CheckOverran(f"more than {seconds + _START_S:.0f} s") from error
    if done.returncode != 0:
        raise CheckOverran(f"the process ended with {done.returncode}: {done.stderr[-500:].decode(errors='replace')}")
    answer = json.loads(done.stdout)
    if "problems" in answer:
        raise InvalidInput([Problem.model_validate(problem) for problem in answer["problems"]])
    return DataReport.model_validate(answer["report"]) if answer["report"] is not None else None


def main() -> None:
    """The process: stdin to stdout."""
    request = json.load(sys.stdin.buffer)
    cpu_s = int(request["seconds"] + _START_S)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    json.dump(_answer(request), sys.stdout)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    kind, compression, delimiter, header = request["format"]
    fmt = TableFormat(kind, compression, delimiter, tuple(header) if header is not None else None)
    file = CheckedFile(Path(request["path"]), fmt, request["name"])
    try:
        reader = Reader.load(Path(request["folder"]))
        deadline_s = time.monotonic() + request["seconds"]
        report = check_data(parse_spec(request["spec"]), file, reader, lambda: time.monotonic() > deadline_s)
    except InvalidInput as error:
        return {"problems": [problem.model_dump(mode="json") for problem in error.problems]}
    return {"report": report.model_dump(mode="json") if report is not None else None}


if __name__ == "__main__":
    main()
