"""models lineage: a tree in both directions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eigenwerk.cli.console import ID_CHARS, JsonOption, ModelReference, platform, say, say_json
from eigenwerk.resources.model_relations import Ancestor, Descendant, ModelLineage
from jobspecs.frozen import SweepOrigin

#: Characters of a digest that are shown.
_DIGEST_CHARS = 12
_STANDINGS = {"here": "", "hub": "", "gone": "  (deleted, or private to its owner)"}


def lineage(reference: ModelReference, as_json: JsonOption = False) -> None:
    """Show what a model version was made from, what was made from it, and where it serves.

    What was deleted is still named by its digest.

    Example: eigenwerk models lineage newsticker-quality@2
    """
    with platform() as client:
        found = client.model_lineage(reference)
    if as_json:
        say_json(found)
        return
    for line in _lines(found):
        say(line)


def _lines(found: ModelLineage) -> Iterator[str]:
    yield f"{found.reference}  {_short(found.digest)}"
    made = f"made by {found.kind}" if found.kind else "imported"
    job = f", job {found.job_id[:ID_CHARS]}" if found.job_id else ""
    code = f", eigenwerk {found.code['eigenwerk']}" if "eigenwerk" in found.code else ""
    pipeline = f", step {found.pipeline.step} of the pipeline {found.pipeline.name}" if found.pipeline else ""
    sweep = f", {_of_sweep(found.sweep)}" if found.sweep else ""
    schedule = f", by the schedule {found.schedule.name}" if found.schedule else ""
    yield f"  {made}{job}{pipeline}{sweep}{schedule}{code}"
    for title, lines in (
        ("from the models", list(_up(found.parents))),
        ("from the data", [_line(one.role, one.reference, one.sha256, one.standing) for one in found.datasets]),
        ("made from it", list(_down(found.children))),
        ("served by", [f"{one.name}  {one.state}" for one in found.deployments]),
    ):
        if lines:
            yield f"  {title}"
            yield from (f"    {line}" for line in lines)


def _of_sweep(sweep: SweepOrigin) -> str:
    part = f"trial {sweep.trial}" if sweep.trial else "the winner"
    return f"{part} of the sweep {sweep.name}"


def _up(parents: Sequence[Ancestor]) -> Iterator[str]:
    for one in parents:
        moved = f"  now {one.now}" if one.now not in (None, one.reference) else ""
        yield _line(one.role, one.reference, one.digest, one.standing) + moved
        yield from (f"  {line}" for line in _up(one.parents))


def _down(children: Sequence[Descendant]) -> Iterator[str]:
    for one in children:
        yield _line(one.role, one.reference, one.digest, "here")
        yield from (f"  {line}" for line in _down(one.children))


def _line(role: str, reference: str, digest: str | None, standing: str) -> str:
    return f"{role}: {reference}" + (f"  {_short(digest)}" if digest else "") + _STANDINGS.get(standing, standing)


def _short(digest: str) -> str:
    return f"{digest[:_DIGEST_CHARS]}…"
