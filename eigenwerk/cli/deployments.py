"""deploy, undeploy; deployments: list, show."""

from __future__ import annotations

from typing import Annotated

import typer

from eigenwerk.cli.console import DeploymentName, JsonOption, platform, say, say_json, say_table

commands = typer.Typer()
deployment_commands = typer.Typer(invoke_without_command=True)


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
    hosts: Annotated[
        int | None, typer.Option(min=1, max=8, help="Hosts that the replicas are spread over; one if absent.")
    ] = None,
    memory_gib: Annotated[
        float | None, typer.Option(help="Main memory of all replicas in GiB; estimated when absent.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=0, max=8, help="GPUs of all replicas, one each at most. Without: the CPU.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="embedded, llamacpp, vllm, tgi; chosen by the model and the hosts when absent.")
    ] = None,
    external: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An engine that somebody else runs, in the place of a model of the registry."),
    ] = None,
    external_model: Annotated[str | None, typer.Option(help="What that engine calls its model.")] = None,
    external_key: Annotated[
        str | None, typer.Option(envvar="EIGENWERK_EXTERNAL_KEY", help="The key that it asks for.", show_envvar=True)
    ] = None,
    health_path: Annotated[str | None, typer.Option(help="Where it says that it is well; /health when absent.")] = None,
    metrics_path: Annotated[str | None, typer.Option(help="Where it has figures in Prometheus' format.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it answers.")] = True,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.")] = 300.0,
    as_json: JsonOption = False,
) -> None:
    """Serve a model. Deployed again under the same name, the new version takes over without a gap.

    Example: eigenwerk deploy newsticker-quality
    Example: eigenwerk deploy qwen --external http://10.0.0.5:8000 --external-model Qwen/Qwen3-8B
    """
    deployment_name, at, _ = name.partition("@")
    with platform() as client:
        if external is not None:
            more = {"health_path": health_path, "metrics_path": metrics_path}
            called = external_model or deployment_name
            deployment = client.deploy_external(deployment_name, external, called, key=external_key or "", **more)
        else:
            deployment = client.deploy(
                deployment_name,
                model=model or (name if at else None),
                replicas=replicas,
                hosts=hosts,
                memory_gib=memory_gib,
                gpus=gpus,
                engine=engine,
            )
        if wait:
            deployment = client.await_deployment(deployment_name, timeout_s=timeout_s)
    if as_json:
        say_json(deployment)
    else:
        say(f"{deployment.name}  {deployment.state}  serves {deployment.model}")
        say(f"engine {deployment.engine}: {deployment.engine_reason}")


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


@deployment_commands.callback()
def list_deployments(context: typer.Context, as_json: JsonOption = False) -> None:
    """List your deployments; show one.

    Example: eigenwerk deployments
    """
    if context.invoked_subcommand is not None:
        return
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


@deployment_commands.command()
def show(name: DeploymentName, as_json: JsonOption = False) -> None:
    """Show one deployment: what serves it and why, where, and what it has in hand.

    Example: eigenwerk deployments show newsticker-quality
    """
    with platform() as client:
        found = client.deployment(name)
    if as_json:
        say_json(found)
        return
    say(f"{found.name}  {found.state}  serves {found.model}")
    say(f"engine {found.engine}: {found.engine_reason}")
    if found.external:
        say(f"somebody else's, at {found.external['url']}")
    if found.host:
        say(f"on {found.host}, {found.replicas} replicas, {found.memory_bytes / 2**30:.2f} GiB, {found.gpus} GPUs")
    for share in found.hosts if len(found.hosts) > 1 else ():
        told = f": {share['message']}" if share["message"] else ""
        say(f"  {share['host'] or 'no host yet'}  {share['replicas']} replicas  {share['state']}{told}")
    if found.load:
        share = found.load["cache_share"]
        cache = "" if share is None else f", {share:.0%} of its cache in use"
        say(f"in hand: {found.load['running']} requests, {found.load['waiting']} wait{cache}")
    if found.reason:
        say(f"{found.reason}: {found.message}")
