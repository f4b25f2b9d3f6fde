"""models push, pull, link and export: the files of models on their way."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, ModelReference, platform, say, say_json, transfer
from eigenwerk.errors import EigenwerkError
from eigenwerk.files.model_folders import model_files, model_folder
from eigenwerk.reports.reporting import size
from jobspecs.kinds.base import parse_duration

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Where to put the files; made when missing.")]


def push(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A folder with a model, a GGUF file, or a tar file of models export."),
    ],
    name: Annotated[str, typer.Option(help="The model's name in the registry.")],
    as_json: JsonOption = False,
) -> None:
    """Register a model as the next version of NAME, as it is. Cut off, it goes on where it stopped when made again.

    What the platform has already isn't sent: of a version that differs in one tensor, about that tensor is.

    Example: eigenwerk models push ./MiniLM-L6 --name minilm-l6
    """
    with model_folder(path) as folder, platform() as client:
        total_bytes = sum(file.stat().st_size for file in model_files(folder))
        with transfer(name, total_bytes) as progress:
            version = client.import_model(folder, name=name, progress=progress)
    if as_json:
        say_json(version)
    else:
        say(f"{version.name}@{version.version}  {len(version.manifest.files)} files  {size(version.bytes)}")


def pull(reference: ModelReference, folder: Folder, as_json: JsonOption = False) -> None:
    """Download a model and check every file's sha256. Interrupted, it goes on where it stopped.

    Example: eigenwerk models pull newsticker-quality@1 ./model
    """
    _pull(reference, folder, as_json)


def download(reference: ModelReference, folder: Folder, as_json: JsonOption = False) -> None:
    """Download a model and check every file's sha256, as models pull does.

    Example: eigenwerk download newsticker-quality@1 ./model
    """
    _pull(reference, folder, as_json)


def link(
    reference: ModelReference,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file of it, such as model.safetensors.")],
    expires: Annotated[str, typer.Option(metavar="TIME", help="Such as 30m, 1h or 2d; at most 7d.")] = "1h",
    as_json: JsonOption = False,
) -> None:
    """Make a link with which anybody may fetch one file until it expires; for curl -L -C - and wget -c too.

    Example: eigenwerk models link newsticker-quality@1 model.safetensors --expires 1h
    """
    try:
        lifetime: timedelta = parse_duration(expires)
    except ValueError as error:
        raise EigenwerkError(f"--expires: {error}.") from error
    with platform() as client:
        made = client.file_link(reference, file, expires_s=int(lifetime.total_seconds()))
    if as_json:
        say_json(made)
    else:
        say(made.url)


def export(
    reference: ModelReference,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The tar file. Unless told, standard output.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model as one tar file: a folder NAME-vN with files and checksums (SHA256SUMS). models push takes it.

    Example: eigenwerk models export newsticker-quality@1 > newsticker-quality-v1.tar
    """
    if out is None and (as_json or sys.stdout.isatty()):
        raise EigenwerkError("A tar file is nothing to read here. Name a file: --out FILE")
    with platform() as client:
        version = client.model_version(reference)
        with transfer(reference, version.manifest.bytes_total) as progress:
            client.export_model(version.reference, out or sys.stdout.buffer, progress=progress)
    if out is not None:
        told = {"model": version.reference, "path": str(out), "bytes": out.stat().st_size}
        say_json(told) if as_json else say(f"{version.reference}  {size(out.stat().st_size)}  {out}")


def _pull(reference: str, folder: Path, as_json: bool) -> None:
    with platform() as client:
        manifest = client.model_version(reference).manifest
        with transfer(reference, manifest.bytes_total) as progress:
            version = client.download(reference, folder, progress=progress)
    if as_json:
        files = [file.model_dump() for file in version.manifest.files]
        say_json({"model": version.reference, "folder": str(folder), "digest": version.digest, "files": files})
    else:
        count = len(version.manifest.files)
        say(f"{version.reference}  {count} files  {size(version.bytes)}  sha256 of each is right  {folder}")
