"""Every example is a valid spec with commands that exist, so that what people read is what runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from deploy.examples.__main__ import EXAMPLES, places_here
from deploy.examples.script import arguments_of, commands_of
from eigenwerk import EigenwerkError
from eigenwerk.cli.application import app
from eigenwerk.specs import read_spec
from jobspecs.pipelines.document import KIND
from jobspecs.pipelines.reading import parse_pipeline
from jobspecs.registry import SPECS, parse_spec
from jobspecs.sweeps.document import KIND as SWEEP
from jobspecs.sweeps.reading import parse_sweep

FILES = sorted(EXAMPLES.glob("*.yaml"))
#: The further specs of an example stand in a folder of its name.
SPEC_FILES = sorted(EXAMPLES.rglob("*.yaml"))
PLACES = {"DATA": "data", "MINILM": "minilm", "SMOLLM2": "smollm2.gguf", "MODEL": "model"}


def check_arguments(arguments: list[str]) -> None:
    """Reads the arguments as the command line does, without running the command. Raises what it raises."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("eigenwerk", list(arguments))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("file", SPEC_FILES, ids=lambda file: file.stem)
def test_an_example_is_a_valid_spec(file: Path) -> None:
    document = read_spec(file).document
    if document["kind"] == KIND:
        assert parse_pipeline(document).steps
    elif document["kind"] == SWEEP:
        assert parse_sweep(document).trials
    else:
        assert parse_spec(document).kind in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_commands_of_an_example_exist_and_take_these_arguments(file: Path) -> None:
    for command in commands_of(file):
        check_arguments(arguments_of(command, PLACES))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_submits_its_own_spec(file: Path) -> None:
    submitted = [
        command
        for command in commands_of(file)
        if command.startswith(("eigenwerk submit", "eigenwerk pipelines submit", "eigenwerk sweep "))
    ]
    assert any(f"examples/{file.name}" in command for command in submitted)


@pytest.mark.parametrize("kind", SPECS)
def test_every_kind_has_an_example(kind: str) -> None:
    assert kind in {read_spec(file).document["kind"] for file in FILES}


def test_a_command_goes_on_after_a_backslash(tmp_path: Path) -> None:
    spec = tmp_path / "one.yaml"
    spec.write_text(
        "# Words.\n#     $ eigenwerk jobs \\\n#         --limit 3\n# more words\nkind: x\n", encoding="utf-8"
    )
    assert commands_of(spec) == ["eigenwerk jobs --limit 3"]


def test_an_example_runs_no_other_program() -> None:
    with pytest.raises(EigenwerkError, match="`eigenwerk` only"):
        arguments_of("rm -r $DATA", PLACES)


def test_what_is_missing_on_this_machine_is_said_before_anything_starts() -> None:
    with pytest.raises(EigenwerkError, match="EIGENWERK_DATA_DIR"):
        arguments_of("eigenwerk datasets push $DATA/x.csv", {})
    assert places_here({"EIGENWERK_DATA_DIR": "somewhere"}, None)["DATA"] == "somewhere"
