"""models: list, show, import, alias."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eigenwerk.cli.console import (
    ID_CHARS,
    JsonOption,
    ModelReference,
    YesOption,
    confirm_deletion,
    platform,
    say,
    say_deleted,
    say_json,
    transfer,
)
from eigenwerk.cli.jobs.commands import check_success, watch_to_end
from eigenwerk.cli.models.aliases import alias
from eigenwerk.cli.models.card import card
from eigenwerk.cli.models.comparison import compare
from eigenwerk.cli.models.facts import archive, describe, tag, unarchive
from eigenwerk.cli.models.files import download, export, link, pull, push
from eigenwerk.cli.models.first_use import first_use
from eigenwerk.cli.models.lineage import lineage
from eigenwerk.cli.models.lists import list_models, search
from eigenwerk.cli.people.sharing import share_model, unshare_model
from eigenwerk.client import Client
from eigenwerk.errors import EigenwerkError
from eigenwerk.files.model_folders import model_files
from eigenwerk.reports.reporting import columns, size
from eigenwerk.resources import ModelVersionDetail

commands = typer.Typer(invoke_without_command=True)
top_commands = typer.Typer()

commands.command()(alias)
commands.command("list")(list_models)
commands.command()(search)
commands.command()(lineage)
commands.command()(card)
commands.command()(compare)
commands.command()(tag)
commands.command()(describe)
commands.command("first-use")(first_use)
commands.command()(archive)
commands.command()(unarchive)
commands.command()(push)
commands.command()(pull)
commands.command()(link)
commands.command()(export)
top_commands.command()(download)
commands.command("share")(share_model)
commands.command("unshare")(unshare_model)


@commands.callback()
def models(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the newest version of each of your models; show, import, name and share them.

    Example: eigenwerk models
    """
    if context.invoked_subcommand is None:
        list_models(as_json=as_json)


@commands.command()
def show(reference: ModelReference, as_json: JsonOption = False) -> None:
    """Show a model version: its files with size and sha256, its figures, and the aliases of the model.

    Example: eigenwerk models show newsticker-quality@1
    """
    with platform() as client:
        version = client.model_version(reference)
        model = client.model(f"{version.owner}/{version.name}")
    if as_json:
        say_json({**version.model_dump(mode="json"), "aliases": model.aliases})
        return
    aliases = ", ".join(f"{alias} = {number}" for alias, number in model.aliases.items())
    facts = [
        ("model", version.reference),
        ("task", version.task),
        ("digest", version.digest),
        ("versions", ", ".join(str(item.version) for item in model.versions)),
        ("aliases", aliases),
        ("description", version.description),
        ("tags", ", ".join(version.tags)),
        ("licence", version.license),
        ("archived", "yes" if version.archived else None),
        ("in its engine", ": ".join(filter(None, (version.verification_state, version.verification_cause)))),
        ("shared with", "" if model.visibility == "private" else model.visibility),
        *((name, f"{value:.4g}") for name, value in sorted(version.metrics.items())),
    ]
    for line in columns(["", ""], [[name, value] for name, value in facts if value]):
        say(line)
    say()
    for line in columns(["", "", ""], [[file.path, size(file.bytes), file.sha256] for file in version.manifest.files]):
        say(line)


@commands.command("import")
def import_model(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A folder with config.json, safetensors and tokenizer, or a GGUF file."),
    ],
    name: Annotated[str, typer.Option(help="The model's name in the registry.")],
    convert: Annotated[
        bool, typer.Option("--convert/--no-convert", help="Make safetensors of a GGUF, as the next version.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Register a model as the next version of NAME. Only data is taken: safetensors, GGUF, JSON, tokenizers.

    Links are followed inside PATH and inside a hub's cache (models--*/blobs); one that leads elsewhere is refused.
    A GGUF is registered as it is; then a job makes safetensors of it, which jobs and deployments can read.

    Example: eigenwerk models import ./MiniLM-L6 --name minilm-l6
    """
    total_bytes = sum(file.stat().st_size for file in model_files(path))
    with platform() as client:
        with transfer(name, total_bytes) as progress:
            version = client.import_model(path, name=name, progress=progress)
        if convert and _is_gguf(version):
            if not as_json:
                say(_line(version))
            version = _converted(client, version, as_json)
    if as_json:
        say_json(version)
    else:
        say(_line(version))


def _is_gguf(version: ModelVersionDetail) -> bool:
    suffixes = {Path(file.path).suffix for file in version.manifest.files}
    return ".gguf" in suffixes and ".safetensors" not in suffixes


def _converted(client: Client, version: ModelVersionDetail, as_json: bool) -> ModelVersionDetail:
    """The version that an `import-model` job makes of a GGUF."""
    spec = {"kind": "import-model", "name": version.name, "model": f"{version.name}@{version.version}"}
    job = client.submit(spec)
    if as_json:
        for _ in client.watch(job.id):
            continue
        check_success(client.job(job.id))
    else:
        watch_to_end(client, job.id, as_json=False)
    result = client.job(job.id).result
    if result is None or result.model is None:
        raise EigenwerkError(f"The job {job.id} left no model behind. See: eigenwerk show {job.id[:ID_CHARS]}")
    return client.model_version(result.model)


def _line(version: ModelVersionDetail) -> str:
    return f"{version.name}@{version.version}  {len(version.manifest.files)} files  {size(version.bytes)}"


@commands.command("rm")
def remove_model(
    reference: Annotated[str, typer.Argument(metavar="NAME[@V]", help="One version, or all without @V.")],
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a version of a model, or all. Refused while a job, a deployment, an adapter or an alias needs it.

    Example: eigenwerk models rm newsticker-quality@1
    """
    what = f"the model {reference}" + ("" if "@" in reference else " with all its versions")
    with platform() as client:
        confirm_deletion(what, yes, lambda: client.delete_model(reference, dry_run=True))
        say_deleted(client.delete_model(reference), as_json, told=not yes)


@commands.command()
def predictions(
    reference: ModelReference,
    out: Annotated[Path, typer.Option(metavar="FILE", help="A file, or a folder that is there.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Download what a model version predicted for each row that judged it: a Parquet file, without the texts.

    Example: eigenwerk models predictions newsticker-quality@1 --out held-out.parquet
    """
    with platform() as client:
        target = client.download_predictions(reference, out)
    if as_json:
        say_json({"model": reference, "path": str(target)})
    else:
        say(f"{reference}  {size(target.stat().st_size)}  its sha256 is right  {target}")
