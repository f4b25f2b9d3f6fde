"""What a client's program is made of: steps, each of which checks one call and is told as a line of JSON.

Programs run with the Python of an environment that has the client and nothing of ours, so this is the standard library
alone. CONFORMANCE_URL, CONFORMANCE_TOKEN and CONFORMANCE_OWNER tell where the platform is, and whose models are there.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

URL = os.environ.get("CONFORMANCE_URL", "")
TOKEN = os.environ.get("CONFORMANCE_TOKEN", "")
OWNER = os.environ.get("CONFORMANCE_OWNER", "")

#: Deployments of the platform: a language model in the embedded engine and in llama.cpp, and one for each other task.
CHAT, GGUF, EMBEDDER, CLASSIFIER, RERANKER = "smollm2", "smollm2-gguf", "minilm", "sorter", "judge"
#: CHAT with a chat template that tells of tools, as Mistral's writes them.
TOOLED = "smollm2-tools"
#: Numbers of an embedding of EMBEDDER.
DIMENSIONS = 384
#: Labels of CLASSIFIER.
LABELS = ["bad", "good"]

_SHOWN_CHARS = 300
_STEPS: list[tuple[str, Callable[..., None]]] = []

Function = TypeVar("Function", bound=Callable[..., None])
Wrong = TypeVar("Wrong", bound=Exception)


class Mismatch(Exception):
    """An answer is another one than was expected."""

    def __init__(self, expected: object, got: object) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got = str(expected), str(got)


def step(call: str) -> Callable[[Function], Function]:
    """The function's name says what is checked, `call` by which call of the client."""

    def kept(function: Function) -> Function:
        _STEPS.append((call, function))
        return function

    return kept


def same(got: object, expected: object) -> None:
    """Raises Mismatch."""
    if got != expected:
        raise Mismatch(repr(expected), repr(got))


def holds(condition: object, expected: str, got: object) -> None:
    """Raises Mismatch unless `condition` is true."""
    if not condition:
        raise Mismatch(expected, repr(got))


def near(got: float, expected: float, within: float = 1e-3) -> None:
    """Raises Mismatch."""
    holds(abs(got - expected) <= within, f"{expected} within {within}", got)


def refused(kind: type[Wrong], ask: Callable[[], object], words: str = "") -> Wrong:
    """The error with which `ask` fails. Raises Mismatch when it is no `kind` or lacks the words."""
    expected = f"{kind.__name__} with {words!r}" if words else kind.__name__
    try:
        answer = ask()
    except kind as error:
        holds(words in str(error), expected, error)
        return error
    except Exception as error:
        raise Mismatch(expected, f"{type(error).__name__}: {error}") from error
    raise Mismatch(expected, answer)


def run(*arguments: object) -> None:
    """Runs all steps in their order, each with `arguments`; the exit code is 1 when one failed."""
    failed = 0
    for call, function in _STEPS:
        began = time.monotonic()
        told = {"step": function.__name__, "call": call, "outcome": "ok"}
        try:
            function(*arguments)
        except Exception as error:
            failed += 1
            expected, got = "no error", f"{type(error).__name__}: {error}"
            if isinstance(error, Mismatch):
                expected, got = error.expected, error.got
            told |= {"outcome": "failed", "expected": expected[:_SHOWN_CHARS], "got": got.strip()[:_SHOWN_CHARS]}
            if os.environ.get("CONFORMANCE_TRACE"):
                traceback.print_exc()
        print(json.dumps({**told, "seconds": round(time.monotonic() - began, 2)}), flush=True)
    sys.exit(1 if failed else 0)
