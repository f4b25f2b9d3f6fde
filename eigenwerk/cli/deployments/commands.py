"""deploy, undeploy; deployments: list, show, sleep, wake, traffic, promote, rollback."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

import typer

from eigenwerk.cli.console import DeploymentName, JsonOption, age, platform, say, say_json, say_table
from eigenwerk.cli.deployments.options import (
    Adapters,
    ContextTokens,
    DeployedName,
    EngineName,
    ExternalKey,
    ExternalModel,
    ExternalUrl,
    Gpus,
    HealthPath,
    Hosts,
    Idle,
    MemoryGib,
    MetricsPath,
    Replicas,
    Sequences,
    ServedModel,
    Traffic,
)
from eigenwerk.errors import EigenwerkError
from eigenwerk.reports.watch import duration
from eigenwerk.resources import Deployment
from jobspecs.kinds.base import parse_duration

commands = typer.Typer()
deployment_commands = typer.Typer(invoke_without_command=True)


@commands.command()
def deploy(
    name: DeployedName,
    model: ServedModel = None,
    replicas: Replicas = None,
    hosts: Hosts = None,
    memory_gib: MemoryGib = None,
    gpus: Gpus = None,
    engine: EngineName = None,
    context_tokens: ContextTokens = None,
    sequences: Sequences = None,
    adapter: Adapters = None,
    idle: Idle = None,
    traffic: Traffic = None,
    external: ExternalUrl = None,
    external_model: ExternalModel = None,
    external_key: ExternalKey = None,
    health_path: HealthPath = None,
    metrics_path: MetricsPath = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it answers.")] = True,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.")] = 300.0,
    as_json: JsonOption = False,
) -> None:
    """Serve a model. Deployed again under the same name, the new version takes over without a gap.

    Example: eigenwerk deploy newsticker-quality
    Example: eigenwerk deploy newsticker-quality --idle 30m
    Example: eigenwerk deploy newsticker-quality@2 --traffic 10%
    Example: eigenwerk deploy smollm2-135m-instruct --adapter summaries --adapter titles@3
    Example: eigenwerk deploy qwen --external http://10.0.0.5:8000 --external-model Qwen/Qwen3-8B
    """
    deployment_name, at, _ = name.partition("@")
    ours: dict[str, Any] = {
        "model": model or (name if at else None),
        "replicas": replicas,
        "hosts": hosts,
        "memory_gib": memory_gib,
        "gpus": gpus,
        "engine": engine,
        "context_tokens": context_tokens,
        "sequences": sequences,
        "adapters": adapter or None,
        "idle_after_s": None if idle is None else _seconds(idle),
        "traffic_percent": None if traffic is None else _percent(traffic),
    }
    theirs: dict[str, Any] = {
        "external_model": external_model,
        "health_path": health_path,
        "metrics_path": metrics_path,
    }
    _check_one_kind(external, ours, theirs)
    with platform() as client:
        if external is not None:
            called = theirs.pop("external_model") or deployment_name
            deployment = client.deploy_external(deployment_name, external, called, key=external_key or "", **theirs)
        else:
            deployment = client.deploy(deployment_name, **ours | {"replicas": replicas or 1})
        if wait:
            until = client.await_candidate if traffic is not None else client.await_deployment
            deployment = until(deployment_name, timeout_s=timeout_s)
    if as_json:
        say_json(deployment)
        return
    say(f"{deployment.name}  {deployment.state}  serves {deployment.model}")
    for served in deployment.adapters:
        say(f"adapter {served}")
    say(f"engine {deployment.engine}: {deployment.engine_reason}")
    _say_memory(deployment)
    if deployment.candidate:
        _say_answers(deployment)


def _check_one_kind(external: str | None, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Refuses options of a model of the registry beside --external, and those of --external without it."""
    idle = [name for name, value in (theirs if external is None else ours).items() if value is not None]
    if idle:
        options = {"idle_after_s": "idle", "traffic_percent": "traffic", "adapters": "adapter"}
        options["context_tokens"] = "context"
        reason = "it is for --external only." if external is None else "somebody else runs that engine: leave it out."
        raise typer.BadParameter(reason, param_hint=f"--{options.get(idle[0], idle[0]).replace('_', '-')}")


def _say_memory(found: Deployment) -> None:
    """What each replica takes, and for what."""
    if found.memory is None:
        return
    answers = ""
    if found.memory["sequences"] and found.memory["context_tokens"]:
        answers = f" for {found.memory['sequences']} answers of {found.memory['context_tokens']:,} tokens"
    for name, of in (("memory", "main"), ("GPU memory", "gpu")):
        if taken := found.memory[of]:
            weights, cache, beside = (taken[f"{part}_bytes"] / 2**30 for part in ("weights", "kv_cache", "overhead"))
            kept = f" + keys and values {cache:.2f}{answers}" if cache else ""
            say(f"{name} of each replica, GiB: weights {weights:.2f}{kept} + {beside:.2f} beside")


def _seconds(idle: str) -> int:
    try:
        time: timedelta = parse_duration(idle)
    except ValueError as error:
        raise EigenwerkError(f"--idle: {error}.") from error
    return int(time.total_seconds())


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
    _say_memory(found)
    if found.idle_after_s is not None:
        used = f", last asked {age(found.last_used_at)} ago" if found.last_used_at else ""
        say(f"sleeps after {duration(found.idle_after_s)} without a request{used}")
    if found.expected_start_s is not None:
        say(f"a start takes about {duration(max(1.0, found.expected_start_s))}")
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
    _say_answers(found)


@deployment_commands.command()
def sleep(name: DeploymentName, as_json: JsonOption = False) -> None:
    """Stop a deployment's engine and give back its memory, until somebody asks it.

    Example: eigenwerk deployments sleep newsticker-quality
    """
    with platform() as client:
        found = client.put_to_sleep(name)
    if as_json:
        say_json(found)
    else:
        say(f"{found.name}  {'asleep' if found.state == 'asleep' else 'falls asleep'}")


@deployment_commands.command()
def wake(
    name: DeploymentName,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it answers.")] = True,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.")] = 300.0,
    as_json: JsonOption = False,
) -> None:
    """Start a deployment that sleeps, before anybody has to wait for it.

    Example: eigenwerk deployments wake newsticker-quality
    """
    with platform() as client:
        found = client.wake(name)
        if wait:
            found = client.await_deployment(name, timeout_s=timeout_s)
    if as_json:
        say_json(found)
    else:
        say(f"{found.name}  {found.state}  serves {found.model}")


Share = Annotated[str, typer.Argument(metavar="SHARE", help="So much of the requests, such as 50%.")]


@deployment_commands.command()
def traffic(name: DeploymentName, share: Share, as_json: JsonOption = False) -> None:
    """Give a deployment's candidate (deploy --traffic) another share of the requests.

    Example: eigenwerk deployments traffic newsticker-quality 50%
    """
    with platform() as client:
        _say_moved(client.set_traffic(name, _percent(share)), as_json)


@deployment_commands.command()
def promote(name: DeploymentName, as_json: JsonOption = False) -> None:
    """Give all requests to a deployment's candidate, and end what was deployed until now.

    Example: eigenwerk deployments promote newsticker-quality
    """
    with platform() as client:
        _say_moved(client.promote(name), as_json)


@deployment_commands.command()
def rollback(name: DeploymentName, as_json: JsonOption = False) -> None:
    """End a deployment's candidate: what is deployed answers all requests.

    Example: eigenwerk deployments rollback newsticker-quality
    """
    with platform() as client:
        _say_moved(client.roll_back(name), as_json)


def _percent(share: str) -> int:
    digits = share.removesuffix("%")
    if not digits.isdecimal() or int(digits) > 100:
        raise typer.BadParameter(f"{share!r} is no share: write 10%, whole numbers up to 100%")
    return int(digits)


def _say_moved(found: Deployment, as_json: bool) -> None:
    if as_json:
        say_json(found)
        return
    say(f"{found.name}  {found.state}  serves {found.model}")
    _say_answers(found)


def _say_answers(found: Deployment) -> None:
    """How the deployment answers, with its candidate's figures beside."""
    percent = found.candidate["traffic_percent"] if found.candidate else 0
    versions = [(found.model, 100 - percent, found.state, found.answers)]
    if found.candidate:
        versions.append((found.candidate["model"], percent, found.candidate["state"], found.candidate["answers"]))
    elif not found.answers.get("requests"):
        return
    rows = [
        [
            *(model, f"{share}%", state, f"{answers['requests']:,}", f"{answers['errors']:,}"),
            "" if answers["error_rate"] is None else f"{answers['error_rate']:.2%}",
            *("" if answers[name] is None else f"{1000 * answers[name]:,.0f} ms" for name in ("p50_s", "p95_s")),
        ]
        for model, share, state, answers in versions
    ]
    say_table(["VERSION", "TRAFFIC", "STATE", "REQUESTS", "ERRORS", "RATE", "P50", "P95"], rows, "")
    if found.candidate and found.candidate["message"]:
        say(found.candidate["message"])
