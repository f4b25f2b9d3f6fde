"""Rules of this code base that no linter knows. A rule without a check does not hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("jobspecs", "scheduling", "storage", "corpus", "api", "workers", "eigenwerk", "deploy")
FOLDERS = (*PACKAGES, "bench", "tests")
#: Beyond this a file has more than one job.
LINES_MAX = 400
ARCHITECTURE_LINES_MAX = 100
#: Of Markdown, to a file of this repository.
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")


@cache
def sources(*folders: str) -> dict[str, ast.Module]:
    """Relative path -> syntax tree of every Python file."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def offenders(test: Callable[[ast.AST], bool], *folders: str) -> dict[str, list[int]]:
    """File -> lines on which a node fails the test."""
    found = {
        path: [getattr(node, "lineno", 0) for node in ast.walk(tree) if test(node)]
        for path, tree in sources(*folders).items()
    }
    return {path: lines for path, lines in found.items() if lines}


def text_files() -> Iterator[Path]:
    suffixes = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".mako", ""}
    for folder in (*FOLDERS, "docs", "examples", ".ci"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix in suffixes)
    # In a second working tree `.git` is a file with the place of the first.
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in suffixes and path.name != ".git")


def called(node: ast.AST, name: str) -> bool:
    """Whether the node calls something of this name, such as `commit` or `torch.load`."""
    return isinstance(node, ast.Call) and f".{ast.unparse(node.func)}".endswith(f".{name}")


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def test_files_are_short_enough_to_be_read() -> None:
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in sources(*FOLDERS)}
    assert {path: length for path, length in lengths.items() if length > LINES_MAX} == {}


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"util", "utils", "common", "helper", "helpers", "misc", "tools", "stuff"}
    assert [path for path in sources(*FOLDERS) if drawers & set(Path(path).with_suffix("").parts)] == []


def test_every_module_postpones_annotations() -> None:
    def postpones(tree: ast.Module) -> bool:
        code = [node for node in tree.body if not isinstance(node, ast.Expr)]
        return not code or any("annotations" in [alias.name for alias in getattr(node, "names", [])] for node in code)

    assert [path for path, tree in sources(*FOLDERS).items() if not postpones(tree)] == []


def test_the_api_parses_no_file_of_a_model_in_its_own_process() -> None:
    """The index of a model with 1.3 million names took 7.5 s, and everybody waited. This module runs confined."""

    def parses(node: ast.AST) -> bool:
        return any(called(node, name) for name in ("json.loads", "json.load", "parse_json_file", "shape_of_file"))

    assert set(offenders(parses, "api")) <= {"api/registry/imported_files.py"}


def test_only_the_unit_of_work_commits() -> None:
    def commits(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit"

    assert set(offenders(commits, *PACKAGES)) <= {"storage/database.py"}


def test_only_the_job_repository_changes_a_jobs_state() -> None:
    def assigns_state(node: ast.AST) -> bool:
        targets = node.targets if isinstance(node, ast.Assign) else []
        return any(isinstance(target, ast.Attribute) and target.attr == "state" for target in targets)

    def updates_state(node: ast.AST) -> bool:
        return (
            called(node, "values")
            and isinstance(node, ast.Call)
            and any(keyword.arg == "state" for keyword in node.keywords)
            and "JobRow" in ast.unparse(node)
        )

    rooms = ("storage", "api", "workers", "scheduling")
    assert set(offenders(assigns_state, *rooms)) <= {"storage/repositories/jobs/jobs.py"}
    assert set(offenders(updates_state, *rooms)) <= {"storage/repositories/jobs/jobs.py"}


def test_who_may_do_what_is_decided_in_one_place() -> None:
    #: The last one compares a token with its user.
    deciding = {"jobspecs/rights.py", "storage/repositories/owners.py", "storage/repositories/people/users.py"}

    def compares_owners(node: ast.AST) -> bool:
        if not isinstance(node, ast.Compare):
            return False
        inside = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
        return bool(inside & {"owner_id", "user_id", "acts_for"})

    def names_the_caller(node: ast.AST) -> bool:
        compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        parts = [part for operand in compared for part in ast.walk(operand)]
        return any(ast.unparse(part) in ("user.name", "principal.name") for part in parts)

    def asks_for_an_administrator(node: ast.AST) -> bool:
        asked = isinstance(node, ast.Compare) or called(node, "holds")
        return asked and any(isinstance(part, ast.Constant) and part.value == "admin" for part in ast.walk(node))

    def takes_anybodys_job(node: ast.AST) -> bool:
        return called(node, "work.jobs.get")

    rooms = ("storage", "corpus", "api", "workers")
    for test in (compares_owners, names_the_caller, asks_for_an_administrator):
        assert set(offenders(test, *rooms)) <= deciding
    assert offenders(takes_anybodys_job, "api") == {}


def test_nothing_is_imported_inside_a_function_to_dodge_a_cycle() -> None:
    def imports_ours(node: ast.AST) -> bool:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return False
        inside = [name for part in ast.walk(node) for name in imported(part)]
        return any(name.split(".")[0] in PACKAGES for name in inside)

    assert offenders(imports_ours, *PACKAGES) == {}


def test_nothing_that_can_run_foreign_code_is_loaded() -> None:
    unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}

    def is_unsafe(node: ast.AST) -> bool:
        if any(name.split(".")[0] in unsafe for name in imported(node)) or called(node, "torch.load"):
            return True
        trusting = isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle")
        return trusting and ast.unparse(node.value) != "False"  # type: ignore[attr-defined]

    assert offenders(is_unsafe, *PACKAGES) == {}


def test_libraries_log_and_do_not_print() -> None:
    assert offenders(lambda node: isinstance(node, ast.Call) and ast.unparse(node.func) == "print", *PACKAGES) == {}


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    place = re.compile(r"(?<![\w.}~])/(?:work|root|home|Users)/\w")
    found = [path.relative_to(ROOT) for path in text_files() if place.search(path.read_text(encoding="utf-8"))]
    assert found == []


def test_no_merge_was_left_half_done() -> None:
    marker = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
    found = [path.relative_to(ROOT) for path in text_files() if marker.search(path.read_text(encoding="utf-8"))]
    assert found == []


def test_the_architecture_fits_on_a_page() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) < ARCHITECTURE_LINES_MAX


def test_decisions_have_numbers_of_their_own() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").iterdir())
    assert [path.name[:4] for path in decisions] == [f"{number:04}" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        assert path.read_text(encoding="utf-8").startswith(f"# {int(path.name[:4])}. "), path.name


def test_links_between_documents_lead_to_files() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    texts = [(path, re.sub(r"`[^`\n]*`", "", path.read_text(encoding="utf-8"))) for path in documents]
    links = [(path, link) for path, text in texts for link in _LINK.findall(text)]
    assert len(links) > 50
    assert [f"{path.name}: {link}" for path, link in links if not (path.parent / link).exists()] == []


def test_the_makefile_explains_every_target_that_people_type() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split())
    assert set(re.findall(r"^([a-z-]+):.*## \S", text, re.MULTILINE)) == phony


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_contract_loads_pydantic_and_nothing_heavier() -> None:
    names = modules_after("import jobspecs.registry, jobspecs.frozen, jobspecs.events, scheduling.decisions")
    assert not names & {"torch", "numpy", "sqlalchemy", "httpx", "fastapi", "yaml", "redis", "celery", "pyarrow"}


def test_the_command_line_starts_without_loading_the_platform() -> None:
    names = modules_after("import eigenwerk.cli.application")
    heavy = {
        "torch",
        "transformers",
        "numpy",
        "sqlalchemy",
        "fastapi",
        "starlette",
        "celery",
        "redis",
        "pyarrow",
        "minio",
    }
    assert not names & (heavy | (set(PACKAGES) - {"jobspecs", "eigenwerk"}))
