"""Rendering with a template that nobody vouches for, in a process that may neither run long nor grow large.

`python -m corpus.conversations.sandbox` reads one JSON document from stdin and writes one to stdout. It loads the
tokenizer under wide limits, then narrows them for the template: one second of CPU, 256 MiB.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from corpus.conversations.chat_template import RenderingError
from corpus.conversations.examples import Conversation, Example, Judged, PlainText, Preference
from corpus.conversations.rendering import Rendered, Renderer
from jobspecs.problems import InvalidInput

#: CPU that loading a tokenizer may take, in seconds. The largest in use, of 262,144 tokens, takes 2.
_LOAD_CPU_S = 20
_LOAD_MEMORY_BYTES = 2 * 1024**3
#: What rendering may take beyond that.
_RENDER_CPU_S = 1
_RENDER_MEMORY_BYTES = 256 * 1024**2
#: Seconds by the clock for everything, on a busy machine.
_TIMEOUT_S = 60
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_KINDS: dict[str, TypeAdapter[Example]] = {
    kind.__name__: TypeAdapter(kind) for kind in (Conversation, Preference, Judged, PlainText)
}


@dataclass(frozen=True)
class Outcome:
    """An example as the model sees it, its sequences by name; or why that can't be."""

    sequences: dict[str, Rendered]
    problem: str | None = None


@dataclass(frozen=True)
class Outcomes:
    """One outcome per example, and whether the template is the model's own or the default."""

    template: Literal["model", "default"]
    examples: list[Outcome]


_OUTCOMES = TypeAdapter(Outcomes)


def render_confined(folder: Path, examples: Sequence[Example]) -> Outcomes:
    """Renders with the folder's tokenizer and template. Raises RenderingError: no usable folder, or a limit passed."""
    request = {"folder": str(folder.resolve()), "examples": [_document(example) for example in examples]}
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TOKENIZERS_PARALLELISM": "false"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "corpus.conversations.sandbox"],
            input=json.dumps(request).encode(),
            capture_output=True,
            env=environment,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _beyond(f"takes more than {_TIMEOUT_S} s") from error
    if done.returncode == -signal.SIGXCPU:
        raise _beyond("takes too much time")
    if done.returncode != 0:
        raise _beyond("takes too much memory or fails")
    answer = json.loads(done.stdout)
    if "problem" in answer:
        raise RenderingError(answer["problem"], answer["remedy"])
    return _OUTCOMES.validate_python(answer)


def _beyond(what: str) -> RenderingError:
    return RenderingError(f"rendering with this model {what}.", "Import it with another chat template.")


def _document(example: Example) -> dict[str, Any]:
    return {"kind": type(example).__name__, **asdict(example)}


def main() -> None:
    """The process: stdin to stdout."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_LOAD_CPU_S, _LOAD_CPU_S + _RENDER_CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (_LOAD_MEMORY_BYTES, _LOAD_MEMORY_BYTES))
    request = json.load(sys.stdin.buffer)
    answer: dict[str, Any]
    try:
        renderer = Renderer.load(Path(request["folder"]))
        _narrow()
        answer = asdict(_rendered(renderer, request["examples"]))
    except InvalidInput as error:
        [problem] = error.problems
        answer = {"problem": problem.message, "remedy": problem.remedy}
    json.dump(answer, sys.stdout)


def _rendered(renderer: Renderer, documents: Sequence[dict[str, Any]]) -> Outcomes:
    examples = [_KINDS[document.pop("kind")].validate_python(document) for document in documents]
    return Outcomes(renderer.template.origin, [_outcome(renderer, example) for example in examples])


def _narrow() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    # The limit counts whole seconds.
    seconds = int(used.ru_utime + used.ru_stime) + 1 + _RENDER_CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    memory = pages * _PAGE_BYTES + _RENDER_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _outcome(renderer: Renderer, example: Example) -> Outcome:
    try:
        return Outcome(renderer.example(example))
    except RenderingError as error:
        [problem] = error.problems
        return Outcome({}, f"{problem.message} {problem.remedy}")


if __name__ == "__main__":
    main()
