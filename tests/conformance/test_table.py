"""The table of what foreign clients are tried with, without the clients."""

from __future__ import annotations

from tests.conformance.__main__ import CLIENTS, LOCKS
from tests.conformance.table import HERE, PROGRAMS, table


def test_the_documentation_has_the_table_of_what_the_programs_check() -> None:
    page = (HERE.parents[1] / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert table() in page, "put the output of `python -m tests.conformance --table` into docs/conformance.md"


def test_every_program_and_every_environment_is_run() -> None:
    assert {client.program for client in CLIENTS} == {path.stem for path in PROGRAMS.glob("*.py")}
    assert {client.environment for client in CLIENTS if client.environment} == {
        path.stem for path in LOCKS.glob("*.txt")
    }
