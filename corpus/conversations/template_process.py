"""A chat template in a process of its own that stays for many conversations: what an engine renders with.

`python -m corpus.conversations.template_process` reads JSON lines: first the template, then one conversation each, and
answers each with a line. A conversation may take a second of CPU and 256 MiB; a process that wanted more is gone, and
the next conversation gets a new one. Rendering costs 0.2 ms beside the template, starting a process 0.3 s.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, cast

from corpus.confinement import process
from corpus.confinement.process import ANSWER_BYTES_MAX, Overran
from corpus.conversations.chat_template import RENDERING, ChatTemplate, RenderingError, beyond

#: Bytes read from the process at once.
_CHUNK_BYTES = 1 << 16


class ConfinedTemplate:
    """Renders with one template, one conversation at a time. Its process starts with the first one."""

    def __init__(self, source: str, tokens: Mapping[str, str], timeout_s: float = RENDERING.wall_s) -> None:
        self._first_line = _line({"source": source, "tokens": dict(tokens)})
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The text that the model shall continue. Raises RenderingError: the template refuses, or passed a limit."""
        conversation = {"turns": [dict(message) for message in messages], "tools": [dict(tool) for tool in tools]}
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._process = self._started()
            answer = self._asked(self._process, _line(conversation))
        if "problem" in answer:
            raise RenderingError(answer["problem"], answer["remedy"])
        return str(answer["text"])

    def close(self) -> None:
        with self._lock:
            self._end()

    def _asked(self, running: subprocess.Popen[bytes], question: bytes) -> dict[str, Any]:
        try:
            _to(running).write(question)
            answer = _read_line(running, time.monotonic() + self._timeout_s)
        except Overran as error:
            self._end()
            raise beyond(error) from error
        except BrokenPipeError:
            answer = b""
        if not answer:
            # Its output is closed already: it ends now, and how it ends says why.
            self._end(patience_s=self._timeout_s)
            raise beyond(process.why_ended(running.returncode))
        return cast(dict[str, Any], json.loads(answer))

    def _started(self) -> subprocess.Popen[bytes]:
        started = process.start("corpus.conversations.template_process", pipe=True)
        # One that dies at once shows when it is asked.
        with contextlib.suppress(BrokenPipeError):
            _to(started).write(self._first_line)
        return started

    def _end(self, patience_s: float = 0.1) -> None:
        """Leaves no process behind."""
        if self._process is None:
            return
        _to(self._process).close()
        process.end(self._process, patience_s)
        cast(IO[bytes], self._process.stdout).close()
        self._process = None


def _to(running: subprocess.Popen[bytes]) -> IO[bytes]:
    return cast(IO[bytes], running.stdin)


def _read_line(running: subprocess.Popen[bytes], deadline_s: float) -> bytes:
    """The next line; empty when the process has ended. Raises Overran."""
    descriptor = cast(IO[bytes], running.stdout).fileno()
    readable = select.poll()
    readable.register(descriptor, select.POLLIN)
    kept = bytearray()
    while not kept.endswith(b"\n"):
        if not readable.poll(1000 * max(0.0, deadline_s - time.monotonic())):
            raise Overran("time")
        chunk = os.read(descriptor, _CHUNK_BYTES)
        if not chunk:
            return b""
        kept += chunk
        if len(kept) > ANSWER_BYTES_MAX:
            raise Overran("answer")
    return bytes(kept)


def _line(document: Any) -> bytes:
    return json.dumps(document).encode() + b"\n"


def main() -> None:
    """The process: lines from stdin, lines to stdout, until stdin closes."""
    process.confine()
    stated = json.loads(sys.stdin.buffer.readline())
    template = ChatTemplate(stated["source"], "model", stated["tokens"])
    process.narrow_memory(RENDERING.memory_bytes)
    try:
        for question in sys.stdin.buffer:
            process.narrow_cpu(RENDERING.cpu_s)
            sys.stdout.buffer.write(_line(_answer(template, question)))
            sys.stdout.buffer.flush()
    except MemoryError:
        os._exit(process.OUT_OF_MEMORY)


def _answer(template: ChatTemplate, question: bytes) -> dict[str, Any]:
    asked = json.loads(question)
    try:
        return {"text": template.render_turns(asked["turns"], tools=asked["tools"], add_generation_prompt=True).text}
    except RenderingError as error:
        [problem] = error.problems
        return {"problem": problem.message, "remedy": problem.remedy}


if __name__ == "__main__":
    main()
