"""Programs that behave as engines that can't be installed here: flags, environment, routes as published, or an error.

What they write is always the same story, a token per character. They are as strict as the documents let them be: a flag
or a variable that the engine does not know ends the program, a route that it does not have is 404.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[4]
_PROGRAM = """#!{python}
import sys
sys.path.insert(0, {root!r})
from {module} import {function}
sys.exit({function}(sys.argv[1:]))
"""
#: Program -> the module and the function that it runs.
PROGRAMS: Mapping[str, tuple[str, str]] = {
    "vllm": ("tests.workers.engines.stand_ins.vllm", "main"),
    "text-generation-launcher": ("tests.workers.engines.stand_ins.tgi", "launcher"),
    "text-generation-router": ("tests.workers.engines.stand_ins.tgi", "router"),
    "text-generation-server": ("tests.workers.engines.stand_ins.tgi", "shard"),
}


def install(folder: Path) -> None:
    """Writes the programs into a folder, for PATH."""
    folder.mkdir()
    for name, (module, function) in PROGRAMS.items():
        text = _PROGRAM.format(python=sys.executable, root=str(_ROOT), module=module, function=function)
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
