"""Rendering with a template that nobody vouches for, in a process that may neither run long nor grow large.

`python -m corpus.conversations.sandbox` reads one JSON document from stdin and writes one to stdout. It loads the
tokenizer under wide limits, then narrows them for the template: one second of CPU, 256 MiB.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from corpus.conversations import confinement
from corpus.conversations.chat_template import RenderingError
from corpus.conversations.examples import Conversation, Example, Judged, PlainText, Preference
from corpus.conversations.rendering import Rendered, Renderer
from jobspecs.problems import InvalidInput

#: CPU that loading a tokenizer may take, in seconds. The largest in use, of 262,144 tokens, takes 2.
_LOAD_CPU_S = 20
_LOAD_MEMORY_BYTES = 2 * 1024**3
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
    try:
        done = subprocess.run(
            [sys.executable, "-m", "corpus.conversations.sandbox"],
            input=json.dumps(request).encode(),
            capture_output=True,
            env=confinement.environment(),
            timeout=confinement.TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise confinement.beyond(f"takes more than {confinement.TIMEOUT_S} s") from error
    if done.returncode == -signal.SIGXCPU:
        raise confinement.beyond("takes too much time")
    if done.returncode != 0:
        raise confinement.beyond("takes too much memory or fails")
    answer = json.loads(done.stdout)
    if "problem" in answer:
        raise RenderingError(answer["problem"], answer["remedy"])
    return _OUTCOMES.validate_python(answer)


def _document(example: Example) -> dict[str, Any]:
    return {"kind": type(example).__name__, **asdict(example)}


def main() -> None:
    """The process: stdin to stdout."""
    confinement.forbid_files()
    resource.setrlimit(resource.RLIMIT_CPU, (_LOAD_CPU_S, _LOAD_CPU_S + confinement.RENDER_CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (_LOAD_MEMORY_BYTES, _LOAD_MEMORY_BYTES))
    request = json.load(sys.stdin.buffer)
    answer: dict[str, Any]
    try:
        renderer = Renderer.load(Path(request["folder"]))
        confinement.narrow_cpu()
        confinement.narrow_memory()
        answer = asdict(_rendered(renderer, request["examples"]))
    except InvalidInput as error:
        [problem] = error.problems
        answer = {"problem": problem.message, "remedy": problem.remedy}
    json.dump(answer, sys.stdout)


def _rendered(renderer: Renderer, documents: Sequence[dict[str, Any]]) -> Outcomes:
    examples = [_KINDS[document.pop("kind")].validate_python(document) for document in documents]
    return Outcomes(renderer.template.origin, [_outcome(renderer, example) for example in examples])


def _outcome(renderer: Renderer, example: Example) -> Outcome:
    try:
        return Outcome(renderer.example(example))
    except RenderingError as error:
        [problem] = error.problems
        return Outcome({}, f"{problem.message} {problem.remedy}")


if __name__ == "__main__":
    main()
