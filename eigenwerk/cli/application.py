"""The commands together, and what happens when one fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, NoReturn

import typer
from typer.exceptions import TyperException

from eigenwerk.cli.console import note
from eigenwerk.cli.datasets import commands as datasets
from eigenwerk.cli.deployments import chat, inference
from eigenwerk.cli.deployments import commands as deployments
from eigenwerk.cli.jobs import checks, pausing, pipelines, schedules, sweeps
from eigenwerk.cli.jobs import commands as jobs
from eigenwerk.cli.models import commands as models
from eigenwerk.cli.people import users, webhooks
from eigenwerk.cli.platform import commands as platform
from eigenwerk.cli.platform import environments, hosts, mcp, usage
from eigenwerk.errors import EigenwerkError
from jobspecs.file_errors import why_not

_EXIT_FAILED = 1
_EXIT_USAGE = 2
_EXIT_INTERRUPTED = 130

app = typer.Typer(
    help=(
        "Your own language models, on your own machines.\n\n"
        "Example: eigenwerk up, then in another terminal: eigenwerk submit examples/train-classifier.yaml --watch"
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(platform.commands)
app.add_typer(datasets.commands, name="datasets")
app.add_typer(jobs.commands)
app.add_typer(jobs.job_commands, name="jobs")
app.add_typer(pausing.commands)
app.add_typer(checks.commands)
app.add_typer(pipelines.commands, name="pipelines")
app.add_typer(sweeps.top_commands)
app.add_typer(sweeps.commands, name="sweeps")
app.add_typer(deployments.deployment_commands, name="deployments")
app.add_typer(models.commands, name="models")
app.add_typer(models.top_commands)
app.add_typer(deployments.commands)
app.add_typer(environments.commands, name="env")
app.add_typer(hosts.commands, name="hosts")
app.add_typer(hosts.worker_commands)
app.add_typer(inference.commands)
app.add_typer(chat.commands)
app.add_typer(usage.commands)
app.add_typer(mcp.commands)
app.add_typer(users.user_commands, name="users", no_args_is_help=True)
app.add_typer(users.token_commands, name="tokens")
app.add_typer(schedules.commands, name="schedules")
app.add_typer(webhooks.commands, name="webhooks")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    try:
        outcome = _command().main(
            args=None if arguments is None else list(arguments), prog_name="eigenwerk", standalone_mode=False
        )
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except EigenwerkError as error:
        for line in str(error).splitlines():
            note(f"error: {line}")
        return _EXIT_FAILED
    except TyperException as error:
        return _usage_error(error)
    except (KeyboardInterrupt, typer.Abort):
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing more may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_FAILED
    except OSError as error:
        note(f"error: {error.filename or 'What was written'} can't be used: {why_not(error)}.")
        return _EXIT_FAILED


@cache
def _command() -> Any:
    """All commands; making them takes 50 ms, which tests would pay at each call."""
    return typer.main.get_command(app)


def run() -> NoReturn:
    """The entry point of the installed command."""
    sys.exit(main())


def _usage_error(error: TyperException) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is not None and (not message or type(error).__name__ == "NoArgsIsHelpError"):
        # Called without arguments, a group shows its help.
        sys.stderr.write(f"{context.get_help()}\n")
    else:
        path = context.command_path if context is not None else "eigenwerk"
        text = " ".join(message.replace("Value error, ", "").split()).rstrip(".")
        note(f"error: {text}. See: {path} --help")
    return _EXIT_USAGE
