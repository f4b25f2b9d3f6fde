"""Rendering with a template that nobody vouches for, in a process that may neither run long nor grow large.

It loads the tokenizer under wide limits, then narrows them for the template: one second of CPU, 256 MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from corpus.confinement.confinement import Confinement
from corpus.confinement.process import Limits, Overran, narrow_cpu, narrow_memory
from corpus.conversations.chat_template import RENDERING, RenderingError, beyond
from corpus.conversations.examples import Conversation, Example, Judged, PlainText, Preference
from corpus.conversations.rendering import Rendered, Renderer, Treatment
from jobspecs.problems import InvalidInput

#: What loading a tokenizer may take. The largest in use, of 262,144 tokens, takes 2 s.
_LOADING = Limits(cpu_s=20, memory_bytes=2 * 1024**3, wall_s=60)
_KINDS: dict[str, TypeAdapter[Example]] = {
    kind.__name__: TypeAdapter(kind) for kind in (Conversation, Preference, Judged, PlainText)
}


@dataclass(frozen=True)
class Outcome:
    """An example as the model sees it, its sequences by name; or why that can't be."""

    sequences: dict[str, Rendered]
    problem: str | None = None
    #: Fields that the template does not write.
    unwritten: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcomes:
    """One outcome per example, and whether the template is the model's own or the default."""

    template: Literal["model", "default"]
    examples: list[Outcome]


_OUTCOMES = TypeAdapter(Outcomes)


def render_confined(
    confinement: Confinement,
    folder: Path,
    examples: Sequence[Example],
    should_stop: Callable[[], bool] = lambda: False,
    treatment: Treatment = "text",
) -> Outcomes:
    """Renders with the folder's tokenizer and template.

    Raises RenderingError (no usable folder, or a limit passed), and what else `Confinement.run` raises.
    """
    request = {
        "folder": folder.resolve(),
        "examples": [_document(example) for example in examples],
        "treatment": treatment,
    }
    try:
        return _OUTCOMES.validate_python(confinement.run("render", request, _LOADING, should_stop))
    except Overran as error:
        raise beyond(error) from error
    except InvalidInput as error:
        [problem] = error.problems
        raise RenderingError(problem.message, problem.remedy or "") from error


def _document(example: Example) -> dict[str, Any]:
    return {"kind": type(example).__name__, **asdict(example)}


def render(folder: Path, examples: list[dict[str, Any]], treatment: Treatment) -> Outcomes:
    """The task. Raises RenderingError."""
    renderer = Renderer.load(folder, treatment=treatment)
    narrow_cpu(RENDERING.cpu_s)
    narrow_memory(RENDERING.memory_bytes)
    found = [_KINDS[document.pop("kind")].validate_python(document) for document in examples]
    return Outcomes(renderer.template.origin, [_outcome(renderer, example) for example in found])


def _outcome(renderer: Renderer, example: Example) -> Outcome:
    try:
        return Outcome(renderer.example(example), unwritten=renderer.unwritten(example))
    except RenderingError as error:
        [problem] = error.problems
        return Outcome({}, f"{problem.message} {problem.remedy}")
