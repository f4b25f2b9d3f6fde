"""The card of a model version: what the registry knows of it, curves, how to ask it, and the card that came with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from api.errors import not_found
from api.parts import Parts
from api.registry.asking import how_to_ask
from api.registry.curves import Curve, curves_of, svg
from api.registry.service import find
from corpus.markdown import Section, Table, card
from jobspecs.lineage import Lineage
from jobspecs.manifest import CARD, Manifest
from jobspecs.pieces import StoredFile
from jobspecs.references import Reference, parse_reference
from jobspecs.rights import Principal
from storage.database import UnitOfWork
from storage.tables import ModelVersionRow

#: Seconds that the object store has to give out the card of the job.
_SECONDS_MAX = 30.0
_WRITTEN_BYTES_MAX = 512 * 1024
#: Where pictures lie, from the card.
PICTURES = "card"
_EVALUATED = ("on", "figure", "value", "95 % interval", "judged", "when")
_NO_CURVES = "No curves: it was not trained here, or what its job told while it ran is deleted."


@dataclass(frozen=True)
class _Known:
    """What the tables hold of a version."""

    row: ModelVersionRow
    manifest: Manifest
    facts: list[tuple[str, str]]
    data: list[tuple[str, ...]]
    evaluations: list[tuple[str, ...]]
    limits: list[str]
    curves: Sequence[Curve]
    deployments: list[str]
    #: The card that came with the files.
    written: StoredFile | None


def render(parts: Parts, user: Principal, reference: Reference) -> str:
    """Markdown; its pictures are linked as `card/NAME.svg`. Raises ApiError 404. Waits for the object store."""
    known = _known(parts, user, reference)
    written = _written(parts, known.written)
    name = known.row.full_name
    pictures = [f"![{curve.name} by step]({PICTURES}/{curve.file_name})" for curve in known.curves]
    sections = [
        Section("Data", (Table(("role", "data set", "licence", "sha256"), known.data),) if known.data else ()),
        Section("Curves", pictures or (_NO_CURVES,)),
        Section("Evaluations", (Table(_EVALUATED, known.evaluations),) if known.evaluations else ()),
        Section("Limits", ("\n".join(f"- {limit}" for limit in known.limits),) if known.limits else ()),
        Section("Ask it", how_to_ask(known.manifest.task, name, known.deployments)),
    ]
    facts = Section("Facts", (Table(("fact", "value"), known.facts),))
    head = card(name, known.row.model.description or "", [facts, *(one for one in sections if one.parts)])
    title = "As its job wrote it" if known.manifest.report.get("verdict") else "As it came"
    return f"{head}\n---\n\n*{title}:*\n\n{written}" if written else head


def picture(parts: Parts, user: Principal, reference: Reference, file_name: str) -> str:
    """The SVG of a curve. Raises ApiError 404."""
    with parts.database.unit_of_work() as work:
        row = find(work, user.reach("models.read"), reference)
        for curve in curves_of(work, row.job_id):
            if curve.file_name == file_name:
                return svg(curve)
    raise not_found(f"picture {file_name} of model {reference}")


def _known(parts: Parts, user: Principal, reference: Reference) -> _Known:
    with parts.database.unit_of_work() as work:
        row = find(work, user.reach("models.read"), reference)
        manifest = Manifest.model_validate(row.manifest)
        made = Lineage.model_validate(row.lineage or {})
        aliases = [alias.alias for alias in work.aliases.of_model(row.model_id) if alias.version == row.version]
        deployed = work.catalogue.deployments(user.reach("deployments.read").own, row)
        return _Known(
            row=row,
            manifest=manifest,
            facts=_facts(row, manifest, made, aliases),
            data=_data(work, user, made),
            evaluations=_evaluations(work, user, row),
            limits=_limits(work, user, row, manifest),
            curves=curves_of(work, row.job_id),
            deployments=[one.name for one in deployed],
            written=next((file for file in work.blobs.files_of(row) if file.path == CARD), None),
        )


def _facts(row: ModelVersionRow, manifest: Manifest, made: Lineage, aliases: Sequence[str]) -> list[tuple[str, str]]:
    told = {
        "task": manifest.task,
        "licence": row.license_known,
        "tags": ", ".join(row.model.tags),
        "aliases": ", ".join(aliases),
        "made by": made.kind or "import",
        "from": ", ".join(f"{parent.reference} ({parent.role})" for parent in made.models),
        "registered": f"{row.created_at:%Y-%m-%d %H:%M} UTC",
        "size": f"{row.bytes:,} bytes in {len(manifest.files)} files",
        "digest": row.digest,
        "archived": "yes" if row.archived_at is not None else None,
    }
    figures = {name: f"{value:.4g}" for name, value in sorted(manifest.metrics.items())}
    return [(name, value) for name, value in {**told, **figures}.items() if value]


def _data(work: UnitOfWork, user: Principal, made: Lineage) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for parent in made.datasets:
        found = work.datasets.find(user.reach("datasets.read"), parse_reference(parent.reference))
        license = (found.license if found is not None else None) or ""
        rows.append((parent.role, parent.reference, license, parent.sha256 or ""))
    return rows


def _evaluations(work: UnitOfWork, user: Principal, row: ModelVersionRow) -> list[tuple[str, ...]]:
    return [
        (
            one.dataset,
            name,
            f"{figure['value']:.4g}",
            f"{figure['low']:.4g} to {figure['high']:.4g}",
            f"{one.judged:,} {one.unit}",
            f"{one.created_at:%Y-%m-%d}",
        )
        for one in work.evaluations.of_model(user.reach("datasets.read"), row.id)
        for name, figure in one.figures.items()
    ]


def _limits(work: UnitOfWork, user: Principal, row: ModelVersionRow, manifest: Manifest) -> list[str]:
    """What the verdict says; and, for who may read the job, what was doubtful about it when it was submitted."""
    verdict = manifest.report.get("verdict") or {}
    job = work.jobs.find(user.reach("jobs.read"), row.job_id) if row.job_id is not None else None
    warnings = [] if job is None else [" ".join(str(warning["message"]).split()) for warning in job.warnings]
    return [*([verdict["sentence"]] if verdict.get("sentence") else []), *warnings]


def _written(parts: Parts, file: StoredFile | None) -> str:
    """The card that came with the files, without front matter and title; what is beyond 512 KiB is left out."""
    if file is None:
        return ""
    objects = parts.objects.within(_SECONDS_MAX)
    with objects.open_stored(file, 0, min(file.bytes, _WRITTEN_BYTES_MAX)) as chunks:
        text = b"".join(chunks).decode("utf-8", errors="replace")
    lines = text.splitlines()
    if lines and lines[0].strip() == "---":
        end = next((place for place, line in enumerate(lines[1:], 1) if line.strip() == "---"), 0)
        lines = lines[end + 1 :]
    while lines and (not lines[0].strip() or lines[0].startswith("# ")):
        lines = lines[1:]
    return "\n".join(lines) + "\n" if lines else ""
