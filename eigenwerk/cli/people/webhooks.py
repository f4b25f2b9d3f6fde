"""webhooks: where you want to be told of events."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from eigenwerk.calls.webhooks import Delivery, Webhook
from eigenwerk.cli.console import JsonOption, YesOption, age, confirm_deletion, note, platform, say, say_json, say_table
from eigenwerk.errors import EigenwerkError

commands = typer.Typer(invoke_without_command=True)

WebhookId = Annotated[str, typer.Argument(metavar="ID", help="From `eigenwerk webhooks list`.")]
#: Seconds for which a test event is waited for, and between two looks.
_TEST_S_MAX, _LOOK_S = 30.0, 0.5


@commands.callback()
def webhooks(context: typer.Context, as_json: JsonOption = False) -> None:
    """Be told of events at an address of yours: docs/webhooks.md. Lists yours.

    Example: eigenwerk webhooks create https://hooks.example.com/eigenwerk --event job.succeeded
    """
    if context.invoked_subcommand is None:
        list_webhooks(as_json=as_json)


@commands.command()
def create(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are sent, by POST.")],
    event: Annotated[list[str], typer.Option(help="job.succeeded, model.alias.moved, …; give it for each.")],
    name: Annotated[str, typer.Option(help="For people; the address if absent.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a webhook. The secret that signs what it is sent is shown once.

    Example: eigenwerk webhooks create https://hooks.example.com/x --event job.succeeded --event job.failed
    """
    with platform() as client:
        made = client.create_webhook(name or url[:100], url, event)
    if as_json:
        say_json(made)
        return
    say(f"{made.id}  {made.signing_secret}")
    note("Keep the secret now: nothing shows it again. Receivers verify with it what they get.")


@commands.command("list")
def list_webhooks(as_json: JsonOption = False) -> None:
    """List your webhooks.

    Example: eigenwerk webhooks list
    """
    with platform() as client:
        found = client.webhooks()
    if as_json:
        say_json(found)
        return
    rows = [[item.id, item.name, _state(item), ", ".join(item.event_types), age(item.created_at)] for item in found]
    say_table(["ID", "NAME", "STATE", "EVENTS", "AGE"], rows, "There are none: eigenwerk webhooks create URL")


@commands.command()
def show(webhook_id: WebhookId, as_json: JsonOption = False) -> None:
    """Show one webhook, and why nothing is sent to it where that is so.

    Example: eigenwerk webhooks show 5b1c2d3e-0f5a-4c6b-9d7e-8f9a0b1c2d3e
    """
    with platform() as client:
        found = client.webhook(webhook_id)
    if as_json:
        say_json(found)
        return
    until = found.previous_secret_until
    say(f"{found.name}  {found.url}")
    say(f"events: {', '.join(found.event_types)}")
    say(
        f"secret: {found.signing_secret_hint}" + (f", the one before until {until:%Y-%m-%d %H:%M} UTC" if until else "")
    )
    say(f"state: {_state(found)}" + (f": {found.disabled_reason}" if found.disabled_reason else ""))


@commands.command()
def deliveries(
    webhook_id: WebhookId,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, the newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List what was and is to be sent to a webhook, and what came of it.

    Example: eigenwerk webhooks deliveries 5b1c2d3e-0f5a-4c6b-9d7e-8f9a0b1c2d3e --limit 10
    """
    with platform() as client:
        found = client.deliveries(webhook_id, limit=limit)
    if as_json:
        say_json(found)
        return
    rows = [
        [item.id, item.event_type, item.state, str(item.attempts), _came_of(item), age(item.created_at)]
        for item in found
    ]
    say_table(["ID", "EVENT", "STATE", "TRIES", "LAST", "AGE"], rows, "Nothing was to be sent yet.")


@commands.command()
def replay(
    webhook_id: WebhookId,
    delivery_id: Annotated[str, typer.Argument(metavar="DELIVERY", help="From `eigenwerk webhooks deliveries`.")],
    as_json: JsonOption = False,
) -> None:
    """Send a delivery again, with the same id and body.

    Example: eigenwerk webhooks replay 5b1c2d3e-0f5a-4c6b-9d7e-8f9a0b1c2d3e 0f5a4c6b-9d7e-4f9a-8b1c-2d3e5b1c2d3e
    """
    with platform() as client:
        made = client.replay(webhook_id, delivery_id)
    say_json(made) if as_json else say(f"{made.id} is sent again")


@commands.command()
def test(
    webhook_id: WebhookId,
    event: Annotated[str | None, typer.Option(help="Which event; the webhook's first if absent.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Send a sample event, and tell what came of the first attempt.

    Example: eigenwerk webhooks test 5b1c2d3e-0f5a-4c6b-9d7e-8f9a0b1c2d3e
    """
    deadline_s = time.monotonic() + _TEST_S_MAX
    with platform() as client:
        sent = client.test_webhook(webhook_id, event)
        while not sent.log and sent.state == "pending":
            if time.monotonic() >= deadline_s:
                raise EigenwerkError(
                    f"The test event was not sent within {_TEST_S_MAX:.0f} s. Does `python -m workers.errands` run?"
                )
            time.sleep(_LOOK_S)
            sent = client.delivery(webhook_id, sent.id)
    if sent.state != "delivered":
        raise EigenwerkError(f"The test event did not arrive: {_came_of(sent)}")
    say_json(sent) if as_json else say(f"arrived: {_came_of(sent)}")


@commands.command()
def rotate(
    webhook_id: WebhookId,
    keep_old_for: Annotated[str, typer.Option(help="How long the old secret signs as well: 0s to 7d.")] = "24h",
    as_json: JsonOption = False,
) -> None:
    """Sign with a new secret, which is shown once, and for a while with the old one as well.

    Example: eigenwerk webhooks rotate 5b1c2d3e-0f5a-4c6b-9d7e-8f9a0b1c2d3e --keep-old-for 2d
    """
    with platform() as client:
        made = client.rotate_webhook_secret(webhook_id, keep_old_for=keep_old_for)
    if as_json:
        say_json(made)
        return
    say(f"{made.id}  {made.signing_secret}")
    until = made.previous_secret_until
    note(f"The old one is valid until {until:%Y-%m-%d %H:%M} UTC." if until else "The old one is valid no more.")


@commands.command()
def enable(webhook_id: WebhookId, as_json: JsonOption = False) -> None:
    """Use a webhook again that was disabled after too many failures.

    Example: eigenwerk webhooks enable 5b1c2d3e-0f5a-4c6b-9d7e-8f9a0b1c2d3e
    """
    with platform() as client:
        found = client.enable_webhook(webhook_id)
    say_json(found) if as_json else say(f"{found.id} is used again")


@commands.command()
def rm(webhook_id: WebhookId, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Delete a webhook with the log of its deliveries.

    Example: eigenwerk webhooks rm 5b1c2d3e-0f5a-4c6b-9d7e-8f9a0b1c2d3e --yes
    """
    confirm_deletion(f"the webhook {webhook_id}", yes)
    with platform() as client:
        client.delete_webhook(webhook_id)
    say_json({"id": webhook_id, "deleted": True}) if as_json else say(f"deleted {webhook_id}")


def _state(item: Webhook) -> str:
    return "disabled" if not item.enabled else f"failing for {age(item.failing_since)}" if item.failing_since else "on"


def _came_of(item: Delivery) -> str:
    if not item.log:
        return "-"
    last = item.log[-1]
    return str(last["error"] or f"{last['status']} in {last['duration_s']:.1f} s")
