"""What the programs check, as a table: read from their steps, without the environments in which they run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = HERE / "clients"


def table() -> str:
    """Markdown: a line for each call of each client."""
    lines = ["| client | call | what is checked |", "|---|---|---|"]
    for path in sorted(PROGRAMS.glob("[a-z]*.py")):
        for call, name in steps_of(path):
            lines.append(f"| {path.stem} | `{call}` | {name.replace('_', ' ')} |")
    return "\n".join(lines)


def steps_of(path: Path) -> list[tuple[str, str]]:
    """Call and name of each step of a program, in their order."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "step":
                assert isinstance(node, ast.FunctionDef)
                found.append((re.sub(r"\s+", " ", ast.literal_eval(decorator.args[0])), node.name))
    return found
