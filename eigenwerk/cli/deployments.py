"""deploy, undeploy, deployments, classify."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, note, platform, say, say_json, say_table
from eigenwerk.client import Client
from eigenwerk.errors import EigenwerkError
from eigenwerk.resources import Classification

commands = typer.Typer()

#: Texts per request when they come from stdin; the server takes up to 1,024.
_TEXTS_PER_REQUEST = 256

DeploymentName = Annotated[str, typer.Argument(metavar="NAME", help="The deployment's name.")]


@commands.command()
def deploy(
    name: Annotated[
        str, typer.Argument(metavar="NAME[@V]", help="The deployment's name; without --model also the model's.")
    ],
    model: Annotated[str | None, typer.Option(help="The model to serve, if it has another name: NAME[@V].")] = None,
    replicas: Annotated[int, typer.Option(min=1, max=8, help="Engine processes that share the work.")] = 1,
    memory_gib: Annotated[float | None, typer.Option(help="Main memory in GiB; estimated when absent.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it answers.")] = True,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.")] = 300.0,
    as_json: JsonOption = False,
) -> None:
    """Serve a model. Deployed again under the same name, the new version takes over without a gap.

    Example: eigenwerk deploy newsticker-quality
    """
    deployment_name, at, _ = name.partition("@")
    with platform() as client:
        deployment = client.deploy(
            deployment_name, model=model or (name if at else None), replicas=replicas, memory_gib=memory_gib
        )
        if wait:
            deployment = client.await_deployment(deployment_name, timeout_s=timeout_s)
    if as_json:
        say_json(deployment)
    else:
        say(f"{deployment.name}  {deployment.state}  serves {deployment.model}")


@commands.command()
def undeploy(name: DeploymentName, as_json: JsonOption = False) -> None:
    """Stop serving a model. It stays in the registry.

    Example: eigenwerk undeploy newsticker-quality
    """
    with platform() as client:
        client.undeploy(name)
    if as_json:
        say_json({"name": name, "state": "stopping"})
    else:
        say(f"{name}  stopping")


@commands.command("deployments")
def list_deployments(as_json: JsonOption = False) -> None:
    """List your deployments.

    Example: eigenwerk deployments
    """
    with platform() as client:
        found = client.deployments()
    if as_json:
        say_json(found)
        return
    rows = [
        [
            item.name,
            item.model,
            item.state + (f" ({item.reason})" if item.reason else ""),
            item.engine,
            str(item.replicas),
        ]
        for item in found
    ]
    say_table(["NAME", "MODEL", "STATE", "ENGINE", "REPLICAS"], rows, "Nothing is deployed: eigenwerk deploy NAME")


@commands.command()
def classify(
    name: DeploymentName,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Texts, or - for one per line of stdin.")],
    top_k: Annotated[int, typer.Option(min=1, help="Labels per text, the best first.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Sort texts into the classes of a deployed classifier.

    Example: eigenwerk classify newsticker-quality "Neue Sicherheitslücke in OpenSSL entdeckt"
    """
    if texts == ["-"]:
        texts = [line.rstrip("\n") for line in sys.stdin]
        if not texts:
            note("There was nothing on stdin.")
    with platform() as client:
        answer = _classified(client, name, texts, top_k)
    if as_json:
        say_json(answer)
        return
    for text, labels in zip(texts, answer.results if answer else [], strict=True):
        for label in labels:
            say(f"{label.label}\t{label.score:.3f}\t{text}")


def _classified(client: Client, name: str, texts: list[str], top_k: int) -> Classification | None:
    """One answer for all texts, asked for in portions; None for no texts."""
    answer: Classification | None = None
    for start in range(0, len(texts), _TEXTS_PER_REQUEST):
        part = client.classify(name, texts[start : start + _TEXTS_PER_REQUEST], top_k=top_k)
        if answer is not None and answer.version != part.version:
            raise EigenwerkError(f"The deployment {name} got a new version between two portions. Ask again.")
        answer = part if answer is None else answer.model_copy(update={"results": [*answer.results, *part.results]})
    return answer
