"""users and tokens."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, YesOption, age, confirm_deletion, note, platform, say, say_json, say_table
from eigenwerk.cli.people.hub_token import hub_token_commands
from eigenwerk.errors import EigenwerkError

user_commands = typer.Typer()
token_commands = typer.Typer(invoke_without_command=True)
token_commands.add_typer(hub_token_commands, name="hub")

UserOption = Annotated[str, typer.Option(help="Whose; yourself if absent. Others need an administrator's token.")]


#: Seconds for which a user's jobs and deployments are waited for, and between two looks.
_STOPPING_S_MAX, _STOPPING_LOOK_S = 300.0, 1.0


class Scope(StrEnum):
    """What a token allows: write includes read, and admin everything."""

    read = "read"
    write = "write"
    metrics = "metrics"
    join_ = "join"
    admin = "admin"


@user_commands.callback()
def users() -> None:
    """List, make and delete users. This needs an administrator's token.

    Example: eigenwerk users create alex
    """


@user_commands.command("list")
def list_users(as_json: JsonOption = False) -> None:
    """List everybody. This needs an administrator's token.

    Example: eigenwerk users list
    """
    with platform() as client:
        found = client.users()
    if as_json:
        say_json(found)
        return
    say_table(["NAME", "ID", "AGE"], [[user.name, user.id, age(user.created_at)] for user in found], "Nobody is there.")


@user_commands.command("create")
def create_user(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")], as_json: JsonOption = False
) -> None:
    """Make a user, who can do nothing before there is a token.

    Example: eigenwerk users create alex && eigenwerk tokens create --user alex --scope write
    """
    with platform() as client:
        user = client.create_user(name)
    if as_json:
        say_json(user)
    else:
        say(f"{user.name}  {user.id}")


@user_commands.command("delete")
def delete_user(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")],
    give_to: Annotated[str | None, typer.Option(metavar="NAME", help="Who gets the things; jobs run on.")] = None,
    delete_things: Annotated[bool, typer.Option("--delete-things", help="Delete the things for good.")] = False,
    cancel_jobs: Annotated[bool, typer.Option("--cancel-jobs", help="Cancel jobs before they pass on.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a user. Tokens end at once; jobs, models, data sets and deployments pass on, or are deleted.

    Example: eigenwerk users delete alex --give-to kim
    """
    if give_to is not None and delete_things:
        raise typer.BadParameter("things pass to somebody or are deleted, not both.", param_hint="--delete-things")
    if cancel_jobs and give_to is None and not delete_things:
        raise typer.BadParameter(
            "it is for --give-to only; --delete-things does it anyway.", param_hint="--cancel-jobs"
        )
    confirm_deletion(f"the user {name}" + (" and everything it has" if delete_things else ""), yes)
    with platform() as client:
        deadline_s = time.monotonic() + _STOPPING_S_MAX
        while left := client.delete_user(name, give_to=give_to, delete_things=delete_things, cancel_jobs=cancel_jobs):
            what = f"{left.jobs} jobs and {left.deployments} deployments of {name} are being stopped"
            if time.monotonic() >= deadline_s:
                raise EigenwerkError(f"{what}. The tokens have ended; delete the user again in a while.")
            note(f"{what} …")
            time.sleep(_STOPPING_LOOK_S)
    if as_json:
        say_json({"name": name, "deleted": True, "given_to": give_to})
    else:
        say(f"deleted {name}" + (f"; {give_to} has its things" if give_to else ""))


@user_commands.command()
def limits(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user's name, or me.")] = "me",
    requests_per_minute: Annotated[int | None, typer.Option(min=0, help="Requests in a minute; 0: no limit.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=0, help="Tokens in a minute; 0: no limit.")] = None,
    concurrent_requests: Annotated[int | None, typer.Option(min=0, help="Requests at once; 0: no limit.")] = None,
    default: Annotated[bool, typer.Option("--default", help="Back to the platform's limits first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how much a user may ask of deployed models, or change it (for administrators).

    Example: eigenwerk users limits alex --requests-per-minute 60 --concurrent-requests 4
    """
    wanted = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrent_requests": concurrent_requests,
    }
    changes = {limit: value for limit, value in wanted.items() if value is not None}
    with platform() as client:
        found = client.limits(name)
        if changes or default:
            found = client.set_limits(name, changes if default else {**found.own, **changes})
    if as_json:
        say_json(found)
        return
    rows = [
        [limit.replace("_", " "), str(value or "no limit"), "the platform's" if found.own[limit] is None else "own"]
        for limit, value in found.effective.items()
    ]
    say_table(["LIMIT", "VALUE", "WHOSE"], rows, "")


@token_commands.callback()
def tokens(context: typer.Context, as_json: JsonOption = False) -> None:
    """List, make and revoke tokens.

    Example: eigenwerk tokens
    """
    if context.invoked_subcommand is None:
        list_tokens("me", as_json)


@token_commands.command("list")
def list_tokens(user: UserOption = "me", as_json: JsonOption = False) -> None:
    """List tokens by their first characters.

    Example: eigenwerk tokens list
    """
    with platform() as client:
        found = client.tokens(user=user)
    if as_json:
        say_json(found)
        return
    rows = [
        [
            item.id,
            f"{item.hint}…",
            ", ".join(item.scopes),
            "revoked" if item.revoked_at else f"{item.expires_at:%Y-%m-%d}" if item.expires_at else "never",
            age(item.created_at),
        ]
        for item in found
    ]
    say_table(["ID", "TOKEN", "SCOPES", "EXPIRES", "AGE"], rows, "There are no tokens: eigenwerk tokens create")


@token_commands.command("create")
def create_token(
    user: UserOption = "me",
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="read, write, metrics (for Prometheus), join (for hosts) or admin; write if absent."),
    ] = None,
    expires_in: Annotated[str | None, typer.Option(help="12h, 30d; never if absent.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token. It is shown once.

    Example: eigenwerk tokens create --user alex --scope write --expires-in 90d
    """
    with platform() as client:
        token = client.create_token(
            user=user, scopes=[str(item) for item in scope or [Scope.write]], expires_in=expires_in
        )
    if as_json:
        say_json(token)
    else:
        say(token.token or "")
        note("Keep it now: nothing shows it again. It goes into EIGENWERK_TOKEN.")


@token_commands.command("revoke")
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="From `eigenwerk tokens list`.")],
    user: UserOption = "me",
    as_json: JsonOption = False,
) -> None:
    """Revoke a token at once.

    Example: eigenwerk tokens revoke 5b1c2d3e-0f5a-4c6b-9d7e-8f9a0b1c2d3e
    """
    with platform() as client:
        client.revoke_token(token_id, user=user)
    if as_json:
        say_json({"id": token_id, "revoked": True})
    else:
        say(f"{token_id}  revoked")
