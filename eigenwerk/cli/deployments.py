"""deploy, undeploy, deployments."""

from __future__ import annotations

from typing import Annotated

import typer

from eigenwerk.cli.console import DeploymentName, JsonOption, platform, say, say_json, say_table

commands = typer.Typer()


@commands.command()
def deploy(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[@V]", help="The deployment's name, or OWNER/NAME; without --model also the model's."
        ),
    ],
    model: Annotated[str | None, typer.Option(help="The model to serve, if it has another name: NAME[@V].")] = None,
    replicas: Annotated[int, typer.Option(min=1, max=8, help="Engine processes that share the work.")] = 1,
    memory_gib: Annotated[
        float | None, typer.Option(help="Main memory of all replicas in GiB; estimated when absent.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=0, max=8, help="GPUs of all replicas, one each at most. Without: the CPU.")
    ] = None,
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
            deployment_name,
            model=model or (name if at else None),
            replicas=replicas,
            memory_gib=memory_gib,
            gpus=gpus,
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
