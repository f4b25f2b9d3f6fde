"""The limits of a process that runs a template: what it may use, and what is said when it wants more."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from corpus.conversations.chat_template import RenderingError

#: What rendering may take beyond what the process has used before, in seconds of CPU and bytes.
RENDER_CPU_S = 1
_RENDER_MEMORY_BYTES = 256 * 1024**2
#: Seconds by the clock for everything, on a busy machine.
TIMEOUT_S = 60
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def environment() -> dict[str, str]:
    """Variables for such a process: where its modules lie, and nothing that the platform keeps to itself."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TOKENIZERS_PARALLELISM": "false"}


def forbid_files() -> None:
    """From now on this process leaves no core and writes no file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def narrow_cpu() -> None:
    """From now on this process may use a second of CPU, or two: the limit counts whole ones. Call it again for more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + RENDER_CPU_S
    # Who may not raise the hard limit again, which is everybody but root, keeps it as it is.
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def narrow_memory() -> None:
    """From now on this process's address space may grow by 256 MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    memory = pages * _PAGE_BYTES + _RENDER_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def beyond(what: str) -> RenderingError:
    """The model's template, or its tokenizer, has gone beyond a limit."""
    return RenderingError(f"rendering with this model {what}.", "Import it with another chat template.")
